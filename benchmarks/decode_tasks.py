"""What `headstart bench decode` asks for: edits, quotes, and the public sets by language.

Code and prose of the first two are Python's own: functions of the standard library and the
descriptions of its modules, read from the installation when the benchmark runs.
"""

import argparse
import bisect
import calendar
import colorsys
import configparser
import csv
import difflib
import fnmatch
import heapq
import inspect
import json
import random
import shutil
import statistics
import tempfile
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from headstart.benchmarks.mmlu_pro import questions as mmlu_questions
from headstart.benchmarks.prompts import prompts

__all__ = [
    "COPIED",
    "SETS",
    "TABLE_LANGUAGES",
    "TASKS",
    "Set",
    "input_language",
    "questions",
    "taught",
]

_MODULES = (
    *(bisect, calendar, colorsys, fnmatch, heapq, shutil, statistics, textwrap),
    *(argparse, configparser, csv, difflib, tempfile, zipfile),
)
_MOST_OF_A_MODULE = 40
_LANGUAGES = ("de", "fr", "ru", "ja", "zh")


@dataclass(frozen=True, slots=True)
class Set:
    """A public set."""

    file: str
    rows: str
    """Its source and the form of a row."""


COPIED = ("edit", "quote")
"""What repeats its prompt."""
_TRANSLATIONS = Set(
    "translate_to_en.jsonl", "`turns` and `lang` (Kthyeon/Multilingual-SpecBench, MIT)"
)
SETS = {
    "gsm8k": Set("gsm8k_test.jsonl", "`question` (openai/grade-school-math, test part, MIT)"),
    "humaneval": Set("humaneval.jsonl", "`prompt` (openai/human-eval, MIT)"),
    "mmlu_pro": Set("mmlu_pro.jsonl", "`question`, `options` (TIGER-AI-Lab/MMLU-Pro, Apache-2.0)"),
    "spider": Set("spider_dev.jsonl", "`question`, `db_id` (taoyds/spider, CC BY-SA 4.0)"),
    **{f"translate_{language}": _TRANSLATIONS for language in _LANGUAGES},
}
TASKS = (*COPIED, *SETS)
TABLE_LANGUAGES = ("en", "de")
"""Languages whose tables are made of answers to `taught` prompts."""
_GERMAN = (
    "Erkläre einem Kind, was {} ist.",
    "Schreibe drei Sätze über {}.",
    "Warum ist {} wichtig?",
    "Was sollte man über {} wissen?",
)
_GERMAN_THINGS = (
    *("der Regen", "ein Leuchtturm", "die Eisenbahn", "ein Wochenmarkt"),
    *("die Nachtschicht", "ein Bauernhof"),
)


def questions(task: str, num: int, data_dir: Path | None, seed: int) -> list[str]:
    """Return prompts of a task, always the same for a seed; none where its file is not there."""
    found = list(dict.fromkeys(_all(task, data_dir)))
    random.Random(seed).shuffle(found)  # noqa: S311 - an order, not a secret
    return found[:num]


def input_language(task: str) -> str:
    """Return the language of a task's input."""
    return task.removeprefix("translate_") if task.startswith("translate_") else "en"


def taught(language: str, num: int) -> list[str]:
    """Return prompts in a language, outside the public sets, from whose answers a table is made."""
    if language == "de":
        found = [form.format(thing) for thing in _GERMAN_THINGS for form in _GERMAN]
        return found[:num]
    return prompts(None, 0)[:num]


def _all(task: str, data_dir: Path | None) -> list[str]:
    if task == "edit":
        return _edits()
    if task == "quote":
        return _quotes()
    if data_dir is None or not (data_dir / SETS[task].file).is_file():
        return []
    if task == "mmlu_pro":
        return [each.whole for each in mmlu_questions(data_dir, 1960, 0)]
    with (data_dir / SETS[task].file).open(encoding="utf-8") as lines:
        return [text for line in lines if (text := _said(task, json.loads(line))) is not None]


def _said(task: str, row: dict[str, Any]) -> str | None:
    """Return what a row of a set asks; None where it is of another language."""
    if task == "humaneval":
        return f"Complete this Python function.\n\n```python\n{row['prompt']}```"
    if task == "spider":
        return f"Write one SQL query for the database `{row['db_id']}`: {row['question']}"
    if task == "gsm8k":
        return str(row["question"])
    return str(row["turns"][0]) if row["lang"] == input_language(task) else None


def _edits() -> list[str]:
    asked = []
    for function in _functions():
        source = textwrap.dedent(inspect.getsource(function))
        name = function.__name__
        is_fit = 6 <= source.count("\n") <= 24 and source.isascii()
        if is_fit and not name.startswith("__"):
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
    """Functions of the modules, and methods of their classes."""
    found: list[Callable[..., Any]] = []
    for module in _MODULES:
        places: Sequence[Any] = (module, *_classes(module))
        members = [each for place in places for _, each in _members(place)]
        own = (each for each in members if each.__module__ == module.__name__)
        found += islice(own, _MOST_OF_A_MODULE)
    return found


def _classes(module: Any) -> list[Any]:
    members = inspect.getmembers(module, inspect.isclass)
    return [each for _, each in members if each.__module__ == module.__name__]


def _members(place: Any) -> list[tuple[str, Any]]:
    return inspect.getmembers(place, inspect.isfunction)
