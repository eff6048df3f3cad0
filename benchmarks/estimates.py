"""Numbers with their uncertainty: pooled statistics of paired blocks, and bootstrap intervals.

Only arithmetic: what the numbers are for, and what is good enough, is `checks.py`'s business.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MIN_BLOCKS",
    "Estimate",
    "Floats",
    "exactly",
    "over_blocks",
    "paired_ratio",
    "pooled",
    "quantile",
]

Floats = NDArray[np.float64]
Block = TypeVar("Block")

MIN_BLOCKS = 8
"""Fewest blocks that say anything of their own spread; a bootstrap of fewer is too narrow."""

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float
    num_blocks: int
    """How many blocks stand behind it."""

    @property
    def half_width(self) -> float:
        """Half the interval's length; infinite where too few blocks were measured."""
        return (self.high - self.low) / 2


def exactly(value: float) -> Estimate:
    """An estimate that nothing makes uncertain, such as a count."""
    return Estimate(value, value, value, 1)


def wilson(num_right: int, num: int) -> Estimate:
    """Estimate a share by its Wilson interval."""
    z, share = 1.96, num_right / num
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = math.sqrt(share * (1 - share) / num + z * z / (4 * num * num)) * z / (1 + z * z / num)
    # Rounding must not bring it beyond what a share can be.
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), num)


def over_blocks(
    blocks: Sequence[Block], statistic: Callable[[Sequence[Block]], float], seed: int = 0
) -> Estimate:
    """Estimate a statistic of all blocks together by resampling whole blocks.

    A block holds what was measured of every arm within a short time, so that what drifts slowly
    (clock speed, neighbours) is drawn together and cancels in a ratio or a difference.

    Args:
        blocks: At least one.
        statistic: Takes a list of blocks, repetitions included.
        seed: Same blocks and seed, same interval.
    """
    value = statistic(blocks)
    if len(blocks) < MIN_BLOCKS:
        return Estimate(value, -math.inf, math.inf, len(blocks))
    random = np.random.default_rng(seed)
    drawn = random.integers(len(blocks), size=(RESAMPLES, len(blocks)))
    values = [statistic([blocks[index] for index in row]) for row in drawn]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), len(blocks))


def paired_ratio(
    pairs: Sequence[tuple[Block, Block]], figure: Callable[[Sequence[Block]], float]
) -> Estimate:
    """Estimate a figure of all firsts, ours, divided by that of all seconds, the rival's."""
    return over_blocks(
        pairs, lambda drawn: figure([one for one, _ in drawn]) / figure([two for _, two in drawn])
    )


def pooled(parts: Sequence[Floats]) -> Floats:
    """Return the samples of several blocks as one array."""
    return np.concatenate(parts)


def quantile(samples: Floats, share: float) -> float:
    """Return the sample quantile, such as `share=0.99`, interpolated linearly."""
    return float(np.quantile(samples, share))
