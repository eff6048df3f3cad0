"""When the LiveMind machine holds back: distances, numbers, budgets, a busy replica, any order."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.stages.mind_events import (
    AtCommit,
    Failed,
    Loaded,
    Reset,
    SentOff,
    Starved,
    Thoughtful,
    ThoughtOutcome,
)
from headstart.stages.rate_limit import Bucket
from headstart.stages.thoughts import Kind, Thought
from headstart.stages.warm_budget import TokenBudget
from tests.stages.mind_desk import FIRST, LIMITS, SECOND, THIRD, Desk


def test_short_segments_are_not_worth_a_thought() -> None:
    desk = Desk(replace(LIMITS, min_chars=30))
    desk.type(FIRST + "It")
    assert not desk.asked
    desk.type(SECOND[2:] + "When")
    assert [one.end for one in desk.asked] == [len(FIRST + SECOND)]


def test_thoughts_keep_a_distance() -> None:
    desk = Desk(replace(LIMITS, interval_s=10.0))
    desk.type(FIRST + "It")
    desk.say()
    desk.type(SECOND[2:] + "When")
    assert len(desk.asked) == 1
    desk.wait(10.0)
    assert len(desk.asked) == 2


def test_a_text_has_so_many_thoughts() -> None:
    desk = Desk(replace(LIMITS, max_thoughts=2))
    for number in range(10):
        desk.type(f"This is sentence {number}. ")
        desk.wait(1.0)
        if desk.mind.is_thinking:
            desk.say()
    assert len(desk.asked) == 2
    assert desk.mind.deadline() is None
    desk.document.clear()
    desk.feed(Reset(""))
    desk.type(FIRST + "It")
    assert len(desk.asked) == 3


@pytest.mark.parametrize("load", [Loaded(0, 1), Loaded(LIMITS.max_running + 1, 0)])
def test_none_begins_while_the_replica_is_busy(load: Loaded) -> None:
    desk = Desk()
    desk.feed(load)
    desk.type(FIRST + "It")
    desk.wait(3.0)
    assert not desk.asked
    desk.feed(Loaded(0, 0))
    desk.wait(1.0)
    assert len(desk.asked) == 1


def test_a_running_thought_gives_way_to_requests_that_wait() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.feed(Loaded(1, 0))
    desk.wait(1.0)
    assert not desk.stopped
    desk.feed(Loaded(1, 1))
    desk.wait(1.0)
    assert desk.stopped == [1]
    desk.feed(Failed(1, 5))
    assert desk.outcomes == [(ThoughtOutcome.YIELDED, 5)]
    desk.feed(Loaded(0, 0))
    desk.wait(2.0)
    assert len(desk.asked) == 2


@pytest.mark.parametrize("has_failed", [False, True])
def test_load_and_failures_hold_thoughts_up_and_do_not_end_them(has_failed: bool) -> None:
    desk = Desk(replace(LIMITS, max_thoughts=2))
    desk.type(FIRST + "It")

    def stop() -> None:
        if not has_failed:
            desk.feed(Loaded(1, 1))
            desk.wait(0.25)
        desk.feed(Failed(desk.asked[-1].job, 5))
        desk.feed(Loaded(0, 0))

    while desk.now < 40:
        if desk.mind.is_thinking:
            stop()
        desk.wait(0.25)
    assert 4 < len(desk.asked) < 8  # less and less often
    desk.wait(16.0)
    assert desk.mind.is_thinking
    desk.say()
    desk.type(SECOND[2:] + "When")
    stop()
    before = len(desk.asked)
    desk.wait(1.0)
    assert len(desk.asked) == before + 1  # one that was made has ended the series


def test_a_thought_that_was_edited_away_makes_room_for_another() -> None:
    desk = Desk(replace(LIMITS, max_thoughts=1))
    desk.type(FIRST + SECOND + "When")
    desk.say()
    desk.wait(60.0)
    assert len(desk.asked) == 1
    desk.replace(0, 3, "A")
    desk.wait(1.0)
    assert len(desk.asked) == 2


def test_what_fails_is_tried_again_later_and_not_if_that_is_useless() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.feed(Failed(1, None))
    assert desk.outcomes == [(ThoughtOutcome.FAILED, LIMITS.max_tokens)]
    desk.wait(2.0)
    assert len(desk.asked) == 2
    desk.feed(Failed(2, 0, is_final=True))
    desk.wait(60.0)
    assert len(desk.asked) == 2
    desk.type(" takes long")
    desk.wait(2.0)
    assert len(desk.asked) == 3


def test_the_budget_is_reserved_and_what_was_not_taken_given_back() -> None:
    bucket = Bucket(100)
    desk = Desk(budget=TokenBudget(bucket))
    desk.type(FIRST + "It")
    assert bucket.level(desk.now) == 100 - LIMITS.max_tokens
    desk.say(num_tokens=10)
    assert bucket.level(desk.now) == 90


def test_without_a_budget_it_waits_and_says_so_once() -> None:
    bucket = Bucket(60)
    desk = Desk(budget=TokenBudget(bucket))
    bucket.take(50, 0.0)
    desk.type(FIRST + "It")
    assert not desk.asked
    assert desk.done == [Starved()]
    desk.wait(7.0)
    assert [one.max_tokens for one in desk.asked] == [LIMITS.min_tokens]
    assert desk.done.count(Starved()) == 1


def test_thoughts_may_be_asked_to_be_short() -> None:
    desk = Desk(replace(LIMITS, max_tokens=5), TokenBudget(Bucket(60)))
    desk.type(FIRST + "It")
    assert [one.max_tokens for one in desk.asked] == [5]


STEPS = st.one_of(
    st.tuples(
        st.just("type"), st.sampled_from([FIRST, SECOND, THIRD, "x", " ", "日本。", "a, b. "])
    ),
    # Near the end of what was thought about, where an edit just does or does not matter.
    st.tuples(
        st.just("edit"),
        st.tuples(st.integers(0, 3), st.integers(-4, 4), st.integers(0, 6), st.text(max_size=8)),
    ),
    st.tuples(st.just("wait"), st.floats(0, 3)),
    st.tuples(st.just("say"), st.integers(1, 64)),
    st.tuples(st.just("more"), st.integers(16, 64)),
    st.tuples(st.just("late"), st.integers(0, 64)),
    st.tuples(st.just("fail"), st.booleans()),
    st.tuples(st.just("load"), st.integers(0, 6)),
    st.tuples(st.just("turn"), st.none()),
)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=40), st.sampled_from(AtCommit), st.integers(20, 200))
def test_no_thought_outlives_its_text_and_no_budget_is_exceeded(
    steps: list[tuple[str, object]], at_commit: AtCommit, per_minute: int
) -> None:
    bucket = Bucket(per_minute)
    desk = Desk(replace(LIMITS, at_commit=at_commit), TokenBudget(bucket))
    spent: list[tuple[float, int]] = []

    def check() -> None:
        for one in desk.mind.noted:  # each says what it was about
            assert desk.document.text.startswith(one.thought.text or "")
        assert [one.end for one in desk.mind.noted] == sorted(one.end for one in desk.mind.noted)
        assert bucket.level(desk.now) >= -1e-6

    def say(num_tokens: int) -> None:
        if desk.mind.is_thinking:
            num_tokens = min(num_tokens, desk.asked[-1].max_tokens)
            spent.append((desk.now, num_tokens))
            desk.say(num_tokens=num_tokens)

    desk.type(FIRST + "It")
    say(10)
    for kind, value in steps:
        text = desk.document.text
        if kind == "type":
            assert isinstance(value, str)
            desk.type(value)
        elif kind == "edit":
            assert isinstance(value, tuple)
            index, offset, length, new = value
            anchors = [desk.asked[-1].end, *(one.end for one in desk.mind.noted)]
            start = min(max(anchors[index % len(anchors)] + offset, 0), len(text))
            desk.replace(start, min(start + length, len(text)), new)
        elif kind == "wait":
            assert isinstance(value, float)
            desk.wait(value)
        elif kind == "more":
            assert isinstance(value, int)
            desk.type(SECOND)
            desk.wait(LIMITS.settle_s)
            say(value)
        elif kind == "say":
            assert isinstance(value, int)
            say(value)
        elif kind == "late" and desk.stopped:
            assert isinstance(value, int)
            job = next(one for one in desk.asked if one.job == desk.stopped[-1])
            desk.feed(Thoughtful(job.job, Thought(Kind.INFERENCE, "late"), min(value, 16)))
        elif kind == "fail" and desk.mind.is_thinking:
            desk.feed(Failed(desk.asked[-1].job, None, is_final=bool(value)))
        elif kind == "load":
            assert isinstance(value, int)
            desk.feed(Loaded(value, value // 5))
        elif kind == "turn":
            desk.feed(SentOff())
            desk.wait(LIMITS.wait_s)
            assert desk.answers
            assert desk.answers[-1].noted == desk.mind.noted
            check()
            desk.document.clear()
            desk.feed(Reset(""))
            desk.done.clear()
            assert not desk.mind.noted
        check()
    assert sum(tokens for _, tokens in spent) <= per_minute * (1 + desk.now / 60) + 1e-6
