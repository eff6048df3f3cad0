"""The verdict rule of DESIGN §5, both ways: a benchmark that cannot fail proves nothing."""

import math

import pytest

from headstart.benchmarks.checks import Bar, Verdict, judge, not_measured
from headstart.benchmarks.estimates import Estimate

NO_SLOWER = Bar("throughput", 0.97, "higher", "ratio")
SMOOTH = Bar("inter_token_p99", 1.1, "lower", "ratio")
QUICK_FIRST = Bar("added_ttft", 0.005, "lower", "s")
FAST = Bar("speed", 10_000, "higher", "tokens/s")


def around(value: float, half_width: float) -> Estimate:
    return Estimate(value, value - half_width, value + half_width, 20)


@pytest.mark.parametrize(
    ("bar", "widest"),
    [
        (NO_SLOWER, 0.015),
        (SMOOTH, 0.05),
        (Bar("no worse", 1.03, "lower", "ratio"), 0.015),
        (Bar("thrice", 3.0, "higher", "ratio"), 0.3),
        (QUICK_FIRST, None),
    ],
)
def test_ratios_need_an_interval_as_narrow_as_the_bar_asks(bar: Bar, widest: float | None) -> None:
    assert bar.max_half_width == (widest if widest is None else pytest.approx(widest))


@pytest.mark.parametrize(
    ("bar", "estimate", "verdict"),
    [
        (NO_SLOWER, around(0.98, 0.014), Verdict.HOLDS),
        (NO_SLOWER, around(0.97, 0.015), Verdict.HOLDS),
        (NO_SLOWER, around(0.965, 0.014), Verdict.FAILS),
        (NO_SLOWER, around(0.98, 0.016), Verdict.UNDECIDED),
        (NO_SLOWER, around(1.2, 0.1), Verdict.UNDECIDED),
        (NO_SLOWER, around(0.8, 0.1), Verdict.FAILS),
        (NO_SLOWER, Estimate(0.5, -math.inf, math.inf, 3), Verdict.UNDECIDED),
        (SMOOTH, around(1.08, 0.04), Verdict.HOLDS),
        (SMOOTH, around(1.12, 0.04), Verdict.FAILS),
        (SMOOTH, around(1.12, 0.06), Verdict.UNDECIDED),
        (SMOOTH, around(1.5, 0.2), Verdict.FAILS),
    ],
)
def test_ratio(bar: Bar, estimate: Estimate, verdict: Verdict) -> None:
    assert judge(bar, estimate).verdict is verdict


@pytest.mark.parametrize(
    ("bar", "estimate", "verdict"),
    [
        (QUICK_FIRST, around(0.003, 0.001), Verdict.HOLDS),
        (QUICK_FIRST, around(0.003, 0.003), Verdict.UNDECIDED),
        (QUICK_FIRST, around(0.007, 0.003), Verdict.UNDECIDED),
        (QUICK_FIRST, around(0.007, 0.001), Verdict.FAILS),
        (FAST, around(20_000, 5_000), Verdict.HOLDS),
        (FAST, around(8_000, 1_000), Verdict.FAILS),
        (FAST, Estimate(20_000, -math.inf, math.inf, 2), Verdict.UNDECIDED),
    ],
)
def test_other_units_need_the_interval_on_one_side(
    bar: Bar, estimate: Estimate, verdict: Verdict
) -> None:
    assert judge(bar, estimate).verdict is verdict


def test_a_small_sample_may_leave_a_bar_open_but_not_hide_a_failure() -> None:
    assert judge(NO_SLOWER, around(0.98, 0.1), is_quick=True).verdict is Verdict.NOT_MEASURED
    assert judge(NO_SLOWER, around(0.8, 0.1), is_quick=True).verdict is Verdict.FAILS
    assert judge(NO_SLOWER, around(0.98, 0.01), is_quick=True).verdict is Verdict.HOLDS


def test_not_measured_says_why() -> None:
    check = not_measured(FAST, "no data")
    assert (check.verdict, check.estimate, check.note) == (Verdict.NOT_MEASURED, None, "no data")
