"""Files of prompts, and how right an answer to one is."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.recipes.sql_running import is_right as is_right_sql
from headstart.stages.errors import SetupError

__all__ = ["METRICS", "Prompt", "is_right", "read_prompts"]

METRICS = ("none", "gsm8k", "sql")

_FIELDS = ("messages", "prompt", "question", "text", "turns")
"""`turns` are what a user says one after the other: the first counts."""
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One line of a file."""

    id: int
    """Its line, from 0."""
    messages: tuple[dict[str, str], ...]
    row: Mapping[str, Any]

    @property
    def answer(self) -> str | None:
        """What the file says is right."""
        found = self.row.get("answer")
        return found if isinstance(found, str) else None


def read_prompts(path: Path, first: int = 0, num: int | None = None) -> list[Prompt]:
    """Read a file of prompts: one a line, or `.jsonl` with `messages`, `prompt` or `question`.

    Args:
        first: Line to begin with.
        num: How many; None is all.

    Raises:
        SetupError: The file cannot be read, a line is not fit, or there is no prompt.
    """
    try:
        # Not `splitlines`: JSON may hold what Unicode takes for the end of a line.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {error}") from error
    chosen = range(len(lines))[first : None if num is None else first + num]
    found = [each for number in chosen if (each := _prompt(path, number, lines[number]))]
    if not found:
        raise SetupError(f"{path} holds no prompt there: write one on each line")
    return found


def _prompt(path: Path, number: int, line: str) -> Prompt | None:
    if not line.strip():
        return None
    if path.suffix != ".jsonl":
        return Prompt(number, ({"role": "user", "content": line},), {})
    try:
        row = json.loads(line)
        name = next(name for name in _FIELDS if row.get(name))
    except (json.JSONDecodeError, AttributeError, StopIteration) as error:
        raise SetupError(
            f"{path}:{number + 1} is no prompt: it takes JSON with one of {', '.join(_FIELDS)}"
        ) from error
    said = row[name]
    if name == "turns" and isinstance(said, list) and isinstance(said[0], str):
        said = said[0]
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    if not isinstance(messages, list) or not all(
        isinstance(each, dict) and "role" in each for each in messages
    ):
        raise SetupError(
            f"{path}:{number + 1}: `{name}` must be text, or a list of role and content"
        )
    return Prompt(number, tuple(messages), row)


def is_right(metric: str, prompt: Prompt, answer: str) -> bool:
    """Whether an answer is right by one of `METRICS`.

    Raises:
        SetupError: The prompt's line does not say what would be.
    """
    if metric == "sql":
        return is_right_sql(prompt.row, answer)
    if prompt.answer is None:
        raise SetupError(f"line {prompt.id + 1} has no `answer` to compare with")
    meant, said = (_last_number(text) for text in (prompt.answer, answer))
    return meant is not None and said == meant


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("$", "")) if found else None


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut a list into pieces of at most `size`."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
