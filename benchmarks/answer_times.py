"""Batches of answers from servers, and what a list of compared batches says about two servers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.benchmarks.estimates import (
    Estimate,
    Floats,
    over_blocks,
    paired_ratio,
    pooled,
    quantile,
)
from headstart.benchmarks.load import Exchange, timeline

__all__ = [
    "Answers",
    "Pair",
    "added",
    "batch_of",
    "first_median_s",
    "gap_s",
    "joined",
    "ratio",
    "speed",
    "speed_ratio",
]

TRIMMED = 0.2
"""Share of the pairs that `speed_ratio` leaves out at either end."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one server showed."""

    first_s: Floats
    """Seconds to the first token, in the order of the prompts, shape (num_answers,)."""
    gaps_s: Floats
    """Seconds between tokens, all answers together."""
    num_tokens: int
    seconds: float
    """From a batch's first request to its last byte, all batches together."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same prompts, put to both servers within one turn."""

    ours: Answers
    baseline: Answers


Figure = Callable[[Sequence[Answers]], float]
"""A figure of one server over any answers."""


def batch_of(exchanges: Sequence[Exchange], num_tokens: int) -> Answers:
    """Read the answers of one batch.

    Args:
        num_tokens: Length of each answer.

    Raises:
        AnswerRefused: One is not what was asked for.
    """
    timelines = [timeline(exchange, num_tokens) for exchange in exchanges]
    began = min(exchange.sent_at for exchange in exchanges)
    ended = max(exchange.ended_at for exchange in exchanges)
    return Answers(
        first_s=np.array([each.first_s for each in timelines]),
        gaps_s=pooled([each.gaps_s for each in timelines]),
        num_tokens=num_tokens * len(exchanges),
        seconds=ended - began,
    )


def joined(parts: Sequence[Answers]) -> Answers:
    """Return several batches of one server as one."""
    return Answers(
        first_s=pooled([part.first_s for part in parts]),
        gaps_s=pooled([part.gaps_s for part in parts]),
        num_tokens=sum(part.num_tokens for part in parts),
        seconds=sum(part.seconds for part in parts),
    )


def first_median_s(parts: Sequence[Answers]) -> float:
    """Median seconds to the first token."""
    return quantile(pooled([part.first_s for part in parts]), 0.5)


def gap_s(share: float) -> Figure:
    """Return the figure "quantile of the seconds between tokens"."""
    return lambda parts: quantile(pooled([part.gaps_s for part in parts]), share)


def speed(parts: Sequence[Answers]) -> float:
    """Tokens per second over the time that requests were in flight."""
    return sum(part.num_tokens for part in parts) / sum(part.seconds for part in parts)


def added(pairs: Sequence[Pair], figure: Figure) -> Estimate:
    """Estimate by how much ours exceeds the baseline."""
    return over_blocks(pairs, lambda drawn: figure(_ours(drawn)) - figure(_baseline(drawn)))


def ratio(pairs: Sequence[Pair], figure: Figure) -> Estimate:
    """Estimate ours divided by the baseline."""
    return paired_ratio([(pair.ours, pair.baseline) for pair in pairs], figure)


def speed_ratio(pairs: Sequence[Pair]) -> Estimate:
    """Estimate our speed divided by the baseline's: a geometric mean of the pairs' middle.

    What disturbs one batch of a pair (a neighbour, a stall of the machine) makes a few pairs lie
    far out. The fifth at either end is left out, so that they do not decide the value; what holds
    us up in more pairs than that does count, and rarer stalls of our own show in the time between
    tokens and in the table's plain speeds. Chosen for its width alone, on one server measured
    against itself, where the value is known to be 1: on a busy machine its interval was half as
    wide as that of all tokens by all seconds, and no narrower with a tenth or a quarter left out.
    """
    logs = [math.log(speed([pair.ours]) / speed([pair.baseline])) for pair in pairs]
    return over_blocks(logs, _middle)


def _middle(logs: Sequence[float]) -> float:
    """Mean of logarithms without the outermost, as a ratio."""
    cut = int(len(logs) * TRIMMED)
    return math.exp(float(np.mean(np.sort(logs)[cut : len(logs) - cut])))


def _ours(pairs: Sequence[Pair]) -> list[Answers]:
    return [pair.ours for pair in pairs]


def _baseline(pairs: Sequence[Pair]) -> list[Answers]:
    return [pair.baseline for pair in pairs]
