"""One block of answers from a server, and what a list of such blocks says about two servers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.benchmarks.estimates import Estimate, Floats, over_blocks, pooled, quantile
from headstart.benchmarks.load import Exchange, timeline

__all__ = ["Answers", "Pair", "added", "block_of", "first_median_s", "gap_s", "ratio", "speed"]


@dataclass(frozen=True, slots=True)
class Answers:
    """What one block showed of one server."""

    first_s: Floats
    """Seconds to the first token, in the order of the prompts, shape (num_answers,)."""
    gaps_s: Floats
    """Seconds between tokens, all answers together."""
    num_tokens: int
    seconds: float
    """From the first request to the last byte."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same prompts, put to both servers one right after the other."""

    ours: Answers
    baseline: Answers


Figure = Callable[[Sequence[Answers]], float]
"""A figure of one server over any blocks."""


def block_of(exchanges: Sequence[Exchange], num_tokens: int) -> Answers:
    """Read the answers of one block.

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


def first_median_s(blocks: Sequence[Answers]) -> float:
    """Median seconds to the first token."""
    return quantile(pooled([block.first_s for block in blocks]), 0.5)


def gap_s(share: float) -> Figure:
    """Return the figure "quantile of the seconds between tokens"."""
    return lambda blocks: quantile(pooled([block.gaps_s for block in blocks]), share)


def speed(blocks: Sequence[Answers]) -> float:
    """Tokens per second over the time that requests were in flight."""
    return sum(block.num_tokens for block in blocks) / sum(block.seconds for block in blocks)


def added(pairs: Sequence[Pair], figure: Figure) -> Estimate:
    """Estimate by how much ours exceeds the baseline."""
    return over_blocks(pairs, lambda drawn: figure(_ours(drawn)) - figure(_baseline(drawn)))


def ratio(pairs: Sequence[Pair], figure: Figure) -> Estimate:
    """Estimate ours divided by the baseline."""
    return over_blocks(pairs, lambda drawn: figure(_ours(drawn)) / figure(_baseline(drawn)))


def _ours(pairs: Sequence[Pair]) -> list[Answers]:
    return [pair.ours for pair in pairs]


def _baseline(pairs: Sequence[Pair]) -> list[Answers]:
    return [pair.baseline for pair in pairs]
