"""How a question is typed in virtual time: without a pause, or by somebody who errs."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Edit", "haltingly", "steadily"]

CHAR_S = 0.25
"""240 characters a minute, as in the paper."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Something that is done to the text at a time."""

    at: float
    start: int
    end: int
    text: str


def steadily(text: str, begins: float = 0.0, char_s: float = CHAR_S) -> Iterator[Edit]:
    """Yield how a text is typed without a pause, word by word."""
    start = 0
    for word in _words(text):
        end = start + len(word)
        yield Edit(begins + end * char_s, start, start, word)
        start = end


def haltingly(text: str, chooser: random.Random, begins: float = 0.0) -> Iterator[Edit]:
    """Yield how somebody types who pauses, mistypes words and goes back to them later."""
    at, written = begins, ""
    wrong: tuple[int, str, str] | None = None
    for word in _words(text):
        at += len(word) * CHAR_S * chooser.uniform(0.5, 1.5)
        if chooser.random() < 0.05:
            at += chooser.expovariate(1 / 4.0)
        typed = word
        if wrong is None and len(word) > 2 and chooser.random() < 0.15:
            typed = word[1] + word[0] + word[2:] if word[0] != word[1] else f"x{word}"
            wrong = len(written), typed, word
        yield Edit(at, len(written), len(written), typed)
        written += typed
        if wrong is not None and chooser.random() < 0.2:
            at += chooser.uniform(0.5, 2.0)
            edit, written = _corrected(at, written, wrong)
            yield edit
            wrong = None
    if wrong is not None:
        edit, written = _corrected(at + 1.0, written, wrong)
        yield edit
    assert written == text


def _corrected(at: float, written: str, wrong: tuple[int, str, str]) -> tuple[Edit, str]:
    start, typed, right = wrong
    end = start + len(typed)
    return Edit(at, start, end, right), written[:start] + right + written[end:]


def _words(text: str) -> Iterator[str]:
    start = 0
    for end in [*(at + 1 for at, char in enumerate(text[:-1]) if char == " "), len(text)]:
        yield text[start:end]
        start = end
