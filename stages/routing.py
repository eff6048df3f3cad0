"""Which replica answers a request. Plain functions over values."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Candidate", "is_worth_leaving", "least_busy"]

_PATIENCE = 4
"""Requests that a replica may have more to do than another and still be stayed with."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One replica that could answer."""

    num_live: int
    """Answers in the making for this gateway."""
    num_waiting: int
    """Requests the engine has accepted and not scheduled, from any gateway."""


def is_worth_leaving(current: Candidate, others: Sequence[Candidate]) -> bool:
    """Whether somebody else should answer, although `current` has the prompt in its cache."""
    busy = current.num_live + current.num_waiting
    return current.num_waiting > 0 and any(
        busy > 2 * (other.num_live + other.num_waiting) + _PATIENCE for other in others
    )


def least_busy(candidates: Sequence[Candidate], turn: int) -> int:
    """Return the index of the candidate with the least to do; a request that waits counts twice.

    `num_live` is exact and `num_waiting` one message old, so neither may outrank the other.

    Args:
        candidates: At least one.
        turn: Grows by one with each request; ties go round by it.
    """
    num_candidates = len(candidates)
    return min(
        range(num_candidates),
        key=lambda index: (
            candidates[index].num_live + candidates[index].num_waiting,
            (index - turn) % num_candidates,
        ),
    )
