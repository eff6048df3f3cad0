"""Whether an answer goes round in circles, where any drafter is right, and nobody gains."""

import re
from collections.abc import Hashable, Sequence

__all__ = ["is_looping", "is_looping_text"]

_TAIL, _MAX_PERIOD = 64, 16
_PIECE = re.compile(r"\w+|[^\w\s]")


def is_looping(tokens: Sequence[Hashable]) -> bool:
    """Whether the last 64 tokens repeat themselves with a period of at most 16."""
    tail = list(tokens[-_TAIL:])
    if len(tail) < _TAIL:
        return False
    return any(tail[period:] == tail[:-period] for period in range(1, _MAX_PERIOD + 1))


def is_looping_text(text: str) -> bool:
    """Tell the same by words and signs, where the tokens are not known.

    These are fewer than the tokens, so the end that is looked at is a little longer.
    """
    return is_looping(_PIECE.findall(text))
