"""Which answers are fit for training: no loops, no stammering, neither too short nor cut."""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum

from headstart.recipes.samples import Answer
from headstart.stages.looping import is_looping

__all__ = ["Flaw", "fit", "flaw_of", "longest_run"]

_MAX_RUN = 10
"""A token so often in a row is a stammer (CLLM's own rule)."""


class Flaw(StrEnum):
    """Why an answer is left out; values stand in data cards."""

    REPETITION = "repetition"
    LOOP = "loop"
    SHORT = "short"
    CUT = "cut"
    """It did not end by itself."""


def longest_run(tokens: Sequence[int]) -> int:
    """Return how often one token stands in a row at most."""
    longest = run = 0
    for index, token in enumerate(tokens):
        run = run + 1 if index and token == tokens[index - 1] else 1
        longest = max(longest, run)
    return longest


def flaw_of(
    tokens: Sequence[int], *, has_ended: bool, min_tokens: int, keeps_cut: bool
) -> Flaw | None:
    """Return what is wrong with an answer, if anything is.

    Args:
        has_ended: Whether its last token ends it.
        keeps_cut: Whether an answer that reached the limit of tokens will do.
    """
    if longest_run(tokens) >= _MAX_RUN:
        return Flaw.REPETITION
    if is_looping(tokens):
        return Flaw.LOOP
    if len(tokens) < min_tokens:
        return Flaw.SHORT
    return None if has_ended or keeps_cut else Flaw.CUT


def fit(
    answers: Iterable[Answer], *, min_tokens: int, keeps_cut: bool
) -> tuple[list[Answer], dict[str, int]]:
    """Return the answers that are fit, and how many are left out, by reason."""
    kept, flaws = [], Counter[str]()
    for each in answers:
        flaw = flaw_of(
            each.answer, has_ended=each.has_ended, min_tokens=min_tokens, keeps_cut=keeps_cut
        )
        if flaw is None:
            kept.append(each)
        else:
            flaws[flaw.value] += 1
    return kept, dict(flaws)
