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
    """Return the index of the candidate with the fewest waiting, then the fewest live requests.

    Args:
        candidates: At least one.
        turn: Grows by one with each request; ties go round by it.
    """
    num_candidates = len(candidates)
    return min(
        range(num_candidates),
        key=lambda index: (
            candidates[index].num_waiting,
            candidates[index].num_live,
            (index - turn) % num_candidates,
        ),
    )
