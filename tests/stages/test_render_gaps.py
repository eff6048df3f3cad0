"""Gaps between what a reader sees, and what the long ones were spent on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.render_gaps import STALL_S, Gap, RenderGaps, StallCause


def after(first: float, *advance: float) -> Gap:
    """The gap between an advance shown at `first` and another one."""
    gaps = RenderGaps()
    assert gaps.shown(first, first, first) is None
    gap = gaps.shown(*advance)
    assert gap is not None
    return gap


def test_a_short_gap_is_nobodys_fault() -> None:
    assert after(1.0, 1.05, 1.08, 1.125) == Gap(0.125, None)


@pytest.mark.parametrize(
    ("advance", "cause"),
    [
        ((1.9, 1.95, 2.0), StallCause.GENERATION),
        ((1.02, 1.95, 2.0), StallCause.NETWORK),
        ((1.02, 1.05, 2.0), StallCause.CLIENT),
        ((0.2, 1.9, 2.0), StallCause.NETWORK),
    ],
)
def test_a_stall_is_what_most_of_it_was_spent_on(
    advance: tuple[float, float, float], cause: StallCause
) -> None:
    assert after(1.0, *advance) == Gap(1.0, cause)


@given(st.lists(st.tuples(*[st.floats(0, 1e6)] * 3)))
def test_any_times_give_gaps_that_are_not_negative(advances: list[tuple[float, ...]]) -> None:
    gaps = RenderGaps()
    for generated_at, delivered_at, shown_at in advances:
        gap = gaps.shown(generated_at, delivered_at, shown_at)
        assert gap is None or gap.seconds >= 0
        assert gap is None or (gap.stall is not None) == (gap.seconds >= STALL_S)
