"""Questions of MMLU-Pro, as LiveMind's protocol types them."""

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FILE", "ROWS", "Question", "answer_in", "questions"]

FILE = "mmlu_pro.jsonl"
ROWS = (
    "one JSON object a line with `question`, `options`, `answer` (a letter) and `reference_cot`, a "
    "chain of thought of Llama-3.1-70B-Instruct (TIGER-AI-Lab/MMLU-Pro evaluation results)"
)
_LETTERS = "ABCDEFGHIJ"
_STATED = re.compile(r"answer\s+is\s*:?\s*\**\(?([A-J])\b", re.IGNORECASE)
_NAMED = re.compile(r"\(([A-J])\)")


@dataclass(frozen=True, slots=True)
class Question:
    """One question."""

    number: int
    category: str
    text: str
    """What is typed."""
    options: str
    """What comes with its last character, at once: the options, and how to answer."""
    num_options: int
    answer: str
    reasoning: str
    """Of a large model, its last sentence included."""

    @property
    def whole(self) -> str:
        """The question as it is sent off in one piece."""
        return self.text + self.options

    @property
    def unanswered(self) -> str:
        """The reasoning without the sentences that state the answer."""
        parts = re.split(r"(?<=[.!?])\s+", self.reasoning.strip())
        return " ".join(one for one in parts if not _STATED.search(one))


def questions(data_dir: Path | None, num: int, seed: int) -> list[Question]:
    """Return so many questions, evenly over the categories; none without the file.

    Args:
        num: Most of them; the same ones for the same seed.
    """
    if data_dir is None or not (data_dir / FILE).is_file():
        return []
    by_category: dict[str, list[Question]] = {}
    with (data_dir / FILE).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            one = _read(number, json.loads(line))
            by_category.setdefault(one.category, []).append(one)
    chooser = random.Random(seed)  # noqa: S311 - an order, not a secret
    for group in by_category.values():
        chooser.shuffle(group)
    found: list[Question] = []
    for row in range(max(map(len, by_category.values()))):
        found += [group[row] for group in by_category.values() if row < len(group)]
    return found[:num]


def answer_in(text: str) -> str | None:
    """Return the letter that an answer states, else the last in brackets; None for neither."""
    stated = _STATED.findall(text)
    if stated:
        return str(stated[-1]).upper()
    named = _NAMED.findall(text)
    return str(named[-1]) if named else None


def _read(number: int, row: dict[str, object]) -> Question:
    options = row["options"]
    assert isinstance(options, list)
    listed = "\n".join(f"({letter}) {one}" for letter, one in zip(_LETTERS, options, strict=False))
    ask = 'Think step by step and end with "the answer is" and its letter in brackets.'
    return Question(
        number,
        str(row["category"]),
        str(row["question"]).strip(),
        f"\nOptions:\n{listed}\n{ask}",
        len(options),
        str(row["answer"]),
        str(row["reference_cot"]),
    )
