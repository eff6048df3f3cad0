"""Which replica answers a request. Plain functions over values."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Candidate", "least_busy"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One replica that could answer."""

    num_live: int
    """Answers in the making for this gateway."""
    num_waiting: int
    """Requests the engine has accepted and not scheduled, from any gateway."""


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
