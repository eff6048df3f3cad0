"""Intervals: narrow where blocks agree, wide where they do not, infinite where they are few."""

import math

import numpy as np
import pytest

from headstart.benchmarks.estimates import (
    MIN_BLOCKS,
    Floats,
    exactly,
    over_blocks,
    pooled,
    quantile,
    wilson,
)


def mean(blocks: "list[Floats] | tuple[Floats, ...]") -> float:
    return float(np.mean(pooled(list(blocks))))


def blocks_of(spread: float, count: int, seed: int = 1) -> list[Floats]:
    random = np.random.default_rng(seed)
    return [random.normal(10, spread, size=20) for _ in range(count)]


def test_value_is_that_of_all_blocks_together() -> None:
    blocks = [np.array([1.0, 1.0, 1.0]), np.array([5.0])]
    assert over_blocks(blocks, lambda drawn: mean(list(drawn))).value == 2.0


def test_too_few_blocks_say_nothing_of_their_spread() -> None:
    few = over_blocks(blocks_of(1, MIN_BLOCKS - 1), lambda drawn: mean(list(drawn)))
    enough = over_blocks(blocks_of(1, MIN_BLOCKS), lambda drawn: mean(list(drawn)))
    assert few.half_width == math.inf
    assert 0 < enough.half_width < 1


def test_interval_is_near_the_one_of_theory() -> None:
    estimate = over_blocks(blocks_of(2, 50), lambda drawn: mean(list(drawn)))
    assert estimate.low < estimate.value < estimate.high
    assert estimate.half_width == pytest.approx(1.96 * 2 / math.sqrt(50 * 20), rel=0.3)


def test_what_drifts_within_both_halves_of_a_pair_cancels() -> None:
    random = np.random.default_rng(2)
    levels = random.uniform(1, 10, size=30)
    pairs = [(level * 1.1, level) for level in levels]

    def ratio(drawn: object) -> float:
        assert isinstance(drawn, list)
        return float(sum(ours for ours, _ in drawn) / sum(theirs for _, theirs in drawn))

    estimate = over_blocks(pairs, ratio)
    assert estimate.value == pytest.approx(1.1)
    assert estimate.half_width == pytest.approx(0, abs=1e-9)


def test_same_blocks_same_interval() -> None:
    blocks = blocks_of(1, 12)
    first, second = (over_blocks(blocks, lambda drawn: mean(list(drawn))) for _ in range(2))
    assert first == second


def test_a_count_is_exact() -> None:
    assert exactly(3.0).half_width == 0


def test_quantiles_are_interpolated() -> None:
    assert quantile(np.array([0.0, 1.0, 2.0, 3.0]), 0.5) == 1.5


def test_a_share_has_an_interval_within_what_it_can_be() -> None:
    found = wilson(5, 10)
    assert (found.low, found.high) == pytest.approx((0.2366, 0.7634), abs=1e-3)
    assert (wilson(40, 40).value, wilson(40, 40).high, wilson(0, 40).low) == (1, 1, 0)
