"""Marks of one request, and the stages between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.stage_clock import Mark, Stage, StageClock

seconds = st.integers(0, 10_000).map(lambda ticks: ticks / 1024)
"""Spans whose sums are exact in binary."""


def passed(times: dict[Mark, float]) -> StageClock:
    clock = StageClock()
    for mark, at in times.items():
        clock.set(mark, at)
    return clock


def test_a_stage_lies_between_each_two_neighbouring_marks() -> None:
    assert len(Stage) == len(Mark) - 1


@given(seconds, st.lists(seconds, min_size=len(Stage), max_size=len(Stage)))
def test_stages_are_disjoint_and_add_up(start: float, spans: list[float]) -> None:
    times, at = {Mark.ARRIVED: start}, start
    for mark, span in zip(list(Mark)[1:], spans, strict=True):
        at += span
        times[mark] = at
    clock = passed(times)

    assert clock.durations() == dict(zip(Stage, spans, strict=True))
    assert sum(clock.durations().values()) == clock.between(Mark.ARRIVED, Mark.RENDERED)


@given(st.sets(st.sampled_from(Mark)))
def test_a_missing_mark_leaves_out_the_stages_on_both_sides(marks: set[Mark]) -> None:
    clock = passed({mark: 2.0 * mark for mark in marks})

    known = [stage for index, stage in enumerate(Stage) if {index, index + 1} <= marks]
    assert clock.durations() == dict.fromkeys(known, 2.0)
    for mark in Mark:
        assert clock.get(mark) == (2.0 * mark if mark in marks else None)
        assert (clock.between(Mark.ARRIVED, mark) is None) != ({Mark.ARRIVED, mark} <= marks)


@given(st.sets(st.sampled_from(Mark)))
def test_the_current_stage_follows_the_latest_mark(marks: set[Mark]) -> None:
    current = passed(dict.fromkeys(marks, 0.0)).current

    if not marks or max(marks) is Mark.RENDERED:
        assert current is None
    else:
        assert current is list(Stage)[max(marks)]


def test_a_span_is_never_negative() -> None:
    clock = passed({Mark.ROUTED: 5.0, Mark.RECEIVED: 4.999, Mark.TOKENISED: 6.0})

    assert clock.durations() == {Stage.HOP: 0.0, Stage.TOKENISE: pytest.approx(1.001)}


def test_a_later_time_of_the_same_mark_replaces_the_earlier() -> None:
    clock = passed({Mark.ARRIVED: 1.0, Mark.PARSED: 2.0})
    clock.set(Mark.PARSED, 4.0)

    assert clock.durations() == {Stage.PARSE: 3.0}


@given(st.sets(st.sampled_from(Mark)), st.sets(st.sampled_from(Mark)))
def test_a_clock_takes_only_the_marks_it_lacks(own: set[Mark], others: set[Mark]) -> None:
    clock, other = passed(dict.fromkeys(own, 1.0)), passed(dict.fromkeys(others, 2.0))
    clock.take(other)

    for mark in Mark:
        expected = 1.0 if mark in own else 2.0 if mark in others else None
        assert clock.get(mark) == expected
        assert other.get(mark) == (2.0 if mark in others else None)
