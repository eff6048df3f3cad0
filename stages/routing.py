"""Which replica answers a request. Plain functions over values."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headstart.stages.language import closest

__all__ = ["Candidate", "Routed", "Wanted", "is_hot", "is_worth_leaving", "least_busy", "pool_for"]

_PATIENCE = 4
"""Requests that a replica may have more to do than another and still be stayed with."""
_DRAW = 0.1
"""By what share speeds may differ that count as the same."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One replica that could answer."""

    num_live: int
    """Answers in the making for this gateway."""
    num_waiting: int
    """Requests the engine has accepted and not scheduled, from any gateway."""
    num_running: int = 0
    """Requests in its batch, from any gateway."""
    tokens_per_s: float | None = None
    """That one answer more may be expected to get there, by what is measured; None if nobody knows.
    Counts between pools alone."""

    @property
    def num_rows(self) -> int:
        """Answers in the making, from any gateway, as far as this one knows."""
        return max(self.num_live, self.num_running)


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
    """Its language's pool has too much to do: requests wait there, or answers grow faster in the
    common one."""
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


def is_hot(
    pool: Sequence[Candidate], common: Sequence[Candidate], *, was_hot: bool = False
) -> bool:
    """Whether a request is better off in the common pool than where a model would draft for it.

    Drafts of a model are made at any load, and under load they cost more than they bring. So what
    counts is how fast answers grow in the one and the other. Where one of the two is not known, a
    pool that has much more to do sends one over, after which it is.

    Args:
        pool: At least one replica with a drafter.
        common: Those without.
        was_hot: What came out the last time: a draw changes nothing.
    """
    if not common:
        return False
    here, there = pool[least_busy(pool, 0)], common[least_busy(common, 0)]
    if is_worth_leaving(here, common):
        return True
    if here.tokens_per_s is None or there.tokens_per_s is None:
        return here.num_rows > 2 * there.num_rows + _PATIENCE
    bar = 1 + _DRAW if was_hot else 1 - _DRAW
    return here.tokens_per_s < bar * there.tokens_per_s


def pool_for(
    wanted: Wanted,
    pools: Mapping[str, Sequence[Candidate]],
    common: Sequence[Candidate],
    hot: Container[str] = (),
) -> tuple[str | None, Routed]:
    """Choose between the pool of a request's language and the common one.

    Args:
        pools: By language, the replicas that can answer; empty where all are lost.
        common: Those of the common pool.
        hot: Languages whose pool was too busy the last time.

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
    if is_hot(candidates, common, was_hot=pool in hot):
        return None, Routed.HOT
    return pool, Routed.LANGUAGE
