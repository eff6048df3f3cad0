"""How much of a rendered prompt no further text can change, found without a tokenizer.

Only renderings are compared. The text is cut where a word ends in front of white space that a next
word already follows, or in front of the full stop of a script without spaces, and is rendered with
other continuations in place of the rest. What these renderings have in common with that of the
whole text does not depend on what comes after the cut. It lies before the word that is being
written, and no tokenizer of a chat model joins what lies on both sides of such a cut in a way that
depends on text further on. A chat template that looks at the whole message makes the common part
shorter, never wrong.
"""

from dataclasses import dataclass

__all__ = ["NO_TEXT", "Boundary", "boundary", "common_length", "continuations"]

_SPACES = frozenset(" \t\n\r")
_STOPS = frozenset("。，、！？；：．｡､।॥。؟،۔።፣၊။។៕")  # noqa: RUF001
"""Sentence and clause marks of scripts that put no space before them, and some no space after."""

_AFTER_A_WORD = (" x", "\ny")
_FROM_THE_START = ("x", " y", "\nz", "\n x", "\n\n\nx", "  x", "\t x", "7", "(")
"""What a prompt may begin with: a template's last token before it may take in white space."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a text is cut, and how much of it has to stay for the cut to hold."""

    cut: int
    """Code points before the cut."""
    hold: int
    """An edit at or after this code point leaves everything before the cut as it was tokenised."""


NO_TEXT = Boundary(0, 0)
"""Only what the template puts before the text."""


def boundary(text: str, since: int = 0) -> Boundary:
    """Return the last place where `text` can be cut; `NO_TEXT` where there is none.

    Args:
        since: What lies before this code point is as it was: a cut that it allows by itself need
            not be found.
    """
    for index in range(len(text) - 2, max(0, since - 2), -1):
        here, after = text[index], text[index + 1]
        if here in _SPACES and not after.isspace():
            start = index
            while start > 0 and text[start - 1].isspace():
                start -= 1
            if start > 0:
                return Boundary(start, index + 2)
        elif here in _STOPS and not text[index - 1].isspace():
            return Boundary(index, index + 2)
    return NO_TEXT


def continuations(text: str, at: Boundary) -> tuple[str, ...]:
    """Return the texts to be rendered beside `text` itself."""
    ends = _AFTER_A_WORD if at.cut else _FROM_THE_START
    return tuple(text[: at.cut] + end for end in ends)


def common_length(first: list[int], *others: list[int]) -> int:
    """Return how many ids all of the sequences begin with alike."""
    length = min(map(len, (first, *others)))
    for other in others:
        if first[:length] == other[:length]:
            continue
        low, high = 0, length  # the first `low` are alike, the first `high` are not
        while high - low > 1:
            middle = (low + high) // 2
            if first[low:middle] == other[low:middle]:
                low = middle
            else:
                high = middle
        length = low
    return length
