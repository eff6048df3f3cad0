"""What `headstart bench decode` asks for: edits, quotes, and questions that repeat nothing.

Code and prose of the first two are Python's own: functions of the standard library and the
descriptions of its modules, read from the installation when the benchmark runs.
"""

import bisect
import calendar
import colorsys
import fnmatch
import heapq
import inspect
import random
import shutil
import statistics
import textwrap
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from headstart.benchmarks.prompts import prompts

__all__ = ["TASKS", "is_looping", "questions"]

TASKS = ("edit", "quote", "free")

_MODULES = (bisect, calendar, colorsys, fnmatch, heapq, shutil, statistics, textwrap)
_TAIL_TOKENS, _MAX_PERIOD = 64, 16


def questions(task: str, num: int, data_dir: Path | None, seed: int) -> list[str]:
    """Return prompts of a task, always the same for a seed."""
    if task == "free":
        return prompts(data_dir, seed)[:num]
    chooser = random.Random(seed)  # noqa: S311 - an order, not a secret
    found = list(dict.fromkeys(_edits() if task == "edit" else _quotes()))
    chooser.shuffle(found)
    return found[:num]


def is_looping(tokens: Sequence[int]) -> bool:
    """Whether an answer's last 64 tokens repeat themselves with a period of at most 16."""
    tail = list(tokens[-_TAIL_TOKENS:])
    if len(tail) < _TAIL_TOKENS:
        return False
    return any(tail[period:] == tail[:-period] for period in range(1, _MAX_PERIOD + 1))


def _edits() -> list[str]:
    asked = []
    for function in _functions():
        source = textwrap.dedent(inspect.getsource(function))
        name = function.__name__
        if 6 <= source.count("\n") <= 24 and source.isascii():
            asked.append(
                f"Repeat this Python code exactly as it is, but rename the function {name} to "
                f"my_{name}. Answer with the code only.\n\n```python\n{source}```"
            )
    return asked


def _quotes() -> list[str]:
    texts = [inspect.getdoc(each) or "" for each in (*_MODULES, *_functions())]
    return [
        f'Quote this text word for word, then say in one sentence what it is about:\n\n"{text}"'
        for text in texts
        if 150 <= len(text) <= 900 and text.isascii()
    ]


def _functions() -> list[Callable[..., Any]]:
    found: list[Callable[..., Any]] = []
    for module in _MODULES:
        members = inspect.getmembers(module, inspect.isfunction)
        found += [each for _, each in islice(members, 40) if each.__module__ == module.__name__]
    return found
