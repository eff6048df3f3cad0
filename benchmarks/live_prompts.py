"""What `bench live` types: real questions, joined where a prompt shall be longer than one."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headstart.benchmarks.typists import sentences
from headstart.stages.errors import SetupError

__all__ = [
    "BIG_TOKENS",
    "CLASSES",
    "JOINED",
    "REAL_TIME_LONG",
    "LengthClass",
    "joined",
    "num_sentences",
    "split",
]

_BETWEEN = "\n\n"
JOINED = (
    "questions of GSM8K train; a prompt of 1-4 sentences is one question, longer ones are several "
    "of them joined by an empty line until a drawn number of sentences is reached"
)


@dataclass(frozen=True, slots=True)
class LengthClass:
    """Prompts of similar length."""

    name: str
    fewest: int
    """Sentences."""
    most: int
    """Sentences that a prompt may have."""
    aims: tuple[int, int]
    """Between these, the number of sentences at which no further question is added is drawn."""


SHORT = LengthClass("1-4", 1, 4, (1, 1))
MIDDLE = LengthClass("5-20", 5, 20, (5, 16))
LONG = LengthClass(">20", 21, 80, (24, 72))
CLASSES = (SHORT, MIDDLE, LONG)
REAL_TIME_LONG = LengthClass(">20", 21, 30, (21, 24))
"""So that somebody who types 240 characters a minute is through in eight minutes."""
BIG_TOKENS = 750
"""Prompts of the longest class are told apart here. The least that is left to compute, a block of
32 tokens and a step, is 0.05 s on two cores, and the prompt in one piece takes 0.07 s for each
hundred tokens: a bar of 7 % cannot be reached below. With blocks of 16 it is less; the 750 have
stayed, so that runs are of the same prompts."""


def num_sentences(text: str) -> int:
    """Count the sentences of a text; one that does not end counts too."""
    return len(sentences(text))


def split(questions: Sequence[str], *, is_quick: bool) -> list[str]:
    """Return the half that a run may use: what is tried out in quick runs is in no full one."""
    return list(questions[0 if is_quick else 1 :: 2])


def joined(questions: Iterator[str], of: LengthClass, num: int, seed: int) -> list[str]:
    """Make prompts of a class, each of questions that no other has.

    Raises:
        SetupError: There are too few questions.
    """
    draw = random.Random(f"{of.name} {seed}")  # noqa: S311 - lengths, not secrets
    found: list[str] = []
    while len(found) < num:
        aim = draw.randint(*of.aims)
        text = _next(questions)
        while num_sentences(text) < aim:
            text += _BETWEEN + _next(questions)
        if of.fewest <= num_sentences(text) <= of.most:
            found.append(text)
    return found


def _next(questions: Iterator[str]) -> str:
    for question in questions:
        return question
    raise SetupError("the data set has too few questions for this plan")
