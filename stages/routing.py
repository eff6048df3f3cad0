"""Which replica answers a request. Plain functions over values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headstart.stages.language import closest

__all__ = ["Candidate", "Routed", "Wanted", "is_worth_leaving", "least_busy", "pool_for"]

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


class Routed(StrEnum):
    """Where a request went whose model has pools by language, and why; metric label values."""

    LANGUAGE = "language"
    """To the pool of its language."""
    UNKNOWN = "unknown"
    """To the common pool, as all below: nobody can tell its language."""
    NO_POOL = "no_pool"
    """Its language has none."""
    UNDRAFTED = "undrafted"
    """It asked for other drafts or none, or for what does not go with a model's drafts."""
    HOT = "hot"
    """Its language's pool has too much to do."""
    DOWN = "down"
    """No replica of its language's pool can answer."""
    STAYED = "stayed"
    """With a replica that has its prompt in the cache."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a request decides on its pool."""

    language: str | None = None
    """Of the input; None if nobody knows."""
    is_drafted: bool = False
    """Whether a model may draft for it."""


def pool_for(
    wanted: Wanted, pools: Mapping[str, Sequence[Candidate]], common: Sequence[Candidate]
) -> tuple[str | None, Routed]:
    """Choose between the pool of a request's language and the common one.

    Args:
        pools: By language, the replicas that can answer; empty where all are lost.
        common: Those of the common pool.

    Returns: A language of `pools` whose replicas are at least one, or None for the common pool; and
        why.
    """
    if not wanted.is_drafted:
        return None, Routed.UNDRAFTED
    if wanted.language is None:
        return None, Routed.UNKNOWN
    if (pool := closest(wanted.language, pools)) is None:
        return None, Routed.NO_POOL
    if not (candidates := pools[pool]):
        return None, Routed.DOWN
    if is_worth_leaving(candidates[least_busy(candidates, 0)], common):
        return None, Routed.HOT
    return pool, Routed.LANGUAGE
