"""Figures of two servers over paired blocks, and the bars of `overhead` on them, both ways."""

from collections.abc import Sequence

import numpy as np
import pytest

from headstart.benchmarks import overhead_frames, overhead_serving
from headstart.benchmarks.answer_times import (
    Answers,
    Pair,
    added,
    first_median_s,
    gap_s,
    joined,
    ratio,
    speed,
    speed_ratio,
)
from headstart.benchmarks.checks import Verdict
from headstart.benchmarks.frame_times import Delivery
from headstart.benchmarks.overhead_frames import Frames


def answers(seed: int, first_s: float = 0.1, gap: float = 0.02, slow: float = 1.0) -> Answers:
    random = np.random.default_rng(seed)
    first = first_s + random.normal(0, 0.0005, size=12)
    gaps = gap * (1 + random.uniform(0, 0.02, size=600))
    return Answers(first, gaps, num_tokens=600, seconds=slow * 20.0 * (1 + 0.001 * (seed % 3)))


def pairs(**ours: float) -> dict[int, Sequence[Pair]]:
    made = [Pair(answers(seed, **ours), answers(seed + 100)) for seed in range(20)]
    return dict.fromkeys(overhead_serving.CONCURRENCIES, made)


def test_figures_are_of_all_blocks_together() -> None:
    blocks = [answers(1), answers(2, slow=3.0)]
    assert speed(blocks) == pytest.approx(1200 / (20.02 + 60.12))
    assert first_median_s(blocks) == pytest.approx(0.1, abs=0.001)
    assert gap_s(0.5)(blocks) == pytest.approx(0.0202, abs=0.0002)


def test_added_is_a_difference_and_ratio_is_ours_over_theirs() -> None:
    made = pairs(first_s=0.103, slow=2.0)[1]
    assert added(made, first_median_s).value == pytest.approx(0.003, abs=0.0005)
    assert ratio(made, speed).value == pytest.approx(0.5, abs=0.002)


def test_joined_batches_are_one_batch() -> None:
    parts = [answers(1), answers(2, slow=3.0)]
    whole = joined(parts)
    assert speed([whole]) == speed(parts)
    assert first_median_s([whole]) == first_median_s(parts)
    assert gap_s(0.99)([whole]) == gap_s(0.99)(parts)


def test_the_ratio_of_speeds_is_that_of_the_pairs_middle() -> None:
    made = [Pair(answers(seed, slow=2.0), answers(seed)) for seed in range(20)]
    stalled = Pair(answers(0, slow=50.0), answers(0))
    estimate = speed_ratio([*made, stalled])
    assert estimate.value == pytest.approx(0.5)
    assert estimate.half_width < 1e-6
    # A server that is held up in more pairs than are left out cannot hide it.
    often = [Pair(answers(0, slow=4.0), answers(0)) for _ in range(20)]
    assert speed_ratio([*made, *often]).value == pytest.approx(2**-1.5, rel=0.01)


def test_ahead_of_a_rival_is_an_interval_without_one() -> None:
    ahead = {"first_s": 0.05, "gap": 0.015, "slow": 0.9}
    found = overhead_serving.rival_checks(pairs(**ahead), is_quick=False)
    assert {check.verdict for check in found} == {Verdict.HOLDS}
    even = overhead_serving.rival_checks(pairs(), is_quick=False)
    assert Verdict.HOLDS not in {check.verdict for check in even}
    behind = {"first_s": 0.2, "gap": 0.03, "slow": 1.1}
    found = overhead_serving.rival_checks(pairs(**behind), is_quick=False)
    assert {check.verdict for check in found} == {Verdict.FAILS}


def test_a_rival_that_does_not_start_leaves_its_reason() -> None:
    found = list(overhead_serving.rival_checks("no module named pyarrow", is_quick=False))
    assert {check.verdict for check in found} == {Verdict.NOT_MEASURED}
    assert {check.note for check in found} == {"no module named pyarrow"}
    names = [check.bar.name for check in overhead_serving.rival_checks(pairs(), is_quick=False)]
    assert [check.bar.name for check in found] == names


def verdicts(**ours: float) -> dict[str, Verdict]:
    made = overhead_serving.checks(pairs(**ours), is_quick=False)
    return {check.bar.name: check.verdict for check in made}


def test_a_server_like_the_baseline_holds_every_bar() -> None:
    assert set(verdicts().values()) == {Verdict.HOLDS}


@pytest.mark.parametrize(
    ("ours", "fallen"),
    [
        ({"first_s": 0.107}, {"added_ttft_median_concurrency_1"}),
        ({"gap": 0.0225}, {"inter_token_p99_concurrency_1", "inter_token_p99_concurrency_4"}),
        ({"slow": 1.05}, {f"throughput_concurrency_{size}" for size in (1, 4, 16)}),
    ],
)
def test_a_worse_server_fails_its_bar_and_no_other(
    ours: dict[str, float], fallen: set[str]
) -> None:
    found = verdicts(**ours)
    assert {name for name, verdict in found.items() if verdict is Verdict.FAILS} == fallen


def delivery(late: float, seconds: float) -> Delivery:
    return Delivery(seconds, 1000, [late] * 1000)


@pytest.mark.parametrize(
    ("late", "seconds", "wanted"),
    [
        (0.002, 0.05, [Verdict.HOLDS, Verdict.HOLDS]),
        (0.02, 0.05, [Verdict.FAILS, Verdict.HOLDS]),
        (0.002, 0.2, [Verdict.HOLDS, Verdict.FAILS]),
    ],
)
def test_bars_of_the_data_plane(late: float, seconds: float, wanted: list[Verdict]) -> None:
    blocks = [delivery(late, seconds)] * 10
    found = overhead_frames.checks(Frames("data plane", blocks, blocks, blocks), is_quick=False)
    assert [check.verdict for check in found] == wanted
