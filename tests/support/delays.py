"""Compares two requests' stages, one of which was held up somewhere on purpose."""

import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from headstart.stages.stage_clock import Stage

__all__ = ["Took", "check", "least"]

_NUM_RUNS = 3


@dataclass(frozen=True, slots=True)
class Took:
    """How long one request took, in seconds."""

    stages_s: dict[str, float]
    """By its stage clock."""
    whole_s: float
    """By the clock of whoever asked."""


async def least(
    ask: Callable[[], Awaitable[Took]], is_enough: Callable[[Took], bool] = lambda _: False
) -> Took:
    """Have a few requests and return the least of each figure: a busy machine only adds.

    Args:
        is_enough: Of one request, whether others could tell nothing new: it is returned.
    """
    # Going through what all tests before this one left behind would take as long as the tolerance.
    gc.collect()
    gc.freeze()
    runs = []
    for _ in range(_NUM_RUNS):
        runs.append(await ask())
        if is_enough(runs[-1]):
            return runs[-1]
    stages = {stage: min(run.stages_s[stage] for run in runs) for stage in runs[0].stages_s}
    return Took(stages, min(run.whole_s for run in runs))


async def check(
    stage: Stage, usual: Took, ask: Callable[[], Awaitable[Took]], delay_s: float
) -> None:
    """Expect a delay in one stage and in the whole, to 10 %, and no other stage to have changed."""
    tolerance_s = 0.1 * delay_s

    def moved(delayed: Took) -> dict[str, float]:
        assert list(delayed.stages_s) == list(usual.stages_s)
        changes = {name: delayed.stages_s[name] - usual.stages_s[name] for name in usual.stages_s}
        return {
            name: round(change, 3) for name, change in changes.items() if abs(change) > tolerance_s
        }

    def is_there_alone(delayed: Took) -> bool:
        found = moved(delayed)
        added = (*found.values(), delayed.whole_s - usual.whole_s)
        return set(found) == {stage} and all(abs(one - delay_s) <= tolerance_s for one in added)

    delayed = await least(ask, is_there_alone)

    assert is_there_alone(delayed), (moved(delayed), delayed.whole_s - usual.whole_s)
