"""One arm's times of a journey over another's, with all prompts or those whose answers loop."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from headstart.benchmarks.estimates import Estimate, paired_ratio
from headstart.benchmarks.journey_measured import RIVAL, Measured
from headstart.stages.looping import is_looping_text

__all__ = ["SPANS", "Arms", "apart", "ends", "ratio_of"]

Arms = Mapping[str, Sequence[Measured]]
"""By name, each with the same prompts in the same order."""
SPANS: Mapping[str, Callable[[Measured], float]] = {
    "first": lambda one: one.first_s,
    "last": lambda one: one.last_s,
}


def apart(found: Arms, *, is_looping: bool) -> Arms:
    """Return what was measured with prompts whose answer by the rival loops, or does not."""
    loops = [is_looping_text(one.text) for one in found[RIVAL]]
    return {
        name: [one for one, own in zip(some, loops, strict=True) if own is is_looping]
        for name, some in found.items()
    }


def ratio_of(ours: Sequence[Measured], theirs: Sequence[Measured], span: str) -> Estimate:
    """Estimate a span's geometric mean over the other's; prompts are the blocks."""
    pairs = [(SPANS[span](one), SPANS[span](two)) for one, two in zip(ours, theirs, strict=True)]
    return paired_ratio(pairs, _geometric_mean)


def ends(ratio: Estimate) -> tuple[float | None, float | None]:
    """Return an estimate's interval; nothing where there are too few blocks for one."""
    if math.isinf(ratio.half_width):
        return None, None
    return ratio.low, ratio.high


def _geometric_mean(some: Sequence[float]) -> float:
    return math.exp(fmean(map(math.log, some)))
