"""The LiveMind machine on a simulated model, in virtual time."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.stages.live_mind import LiveMind, MindLimits
from headstart.stages.mind_events import (
    Answer,
    AtCommit,
    Dropped,
    Ended,
    Event,
    Failed,
    Loaded,
    MindAction,
    Outcome,
    Reset,
    Resumed,
    Retyped,
    SentOff,
    Starved,
    Stop,
    Think,
    Thoughtful,
)
from headstart.stages.prompt_document import PromptDocument
from headstart.stages.rate_limit import Bucket
from headstart.stages.segmenter import segment_ends
from headstart.stages.thoughts import Kind, Thought
from headstart.stages.warm_budget import WarmBudget

LIMITS = MindLimits(min_chars=5, interval_s=0.0, debounce_s=0.0)
FIRST, SECOND, THIRD = "The train leaves. ", "It takes an hour. ", "When is it there?"


@dataclass
class Desk:
    """Somebody who types, a machine, and what the machine has asked for."""

    limits: MindLimits = LIMITS
    budget: WarmBudget = field(default_factory=WarmBudget)
    now: float = 0.0
    asked: list[Think] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    done: list[MindAction] = field(default_factory=list)
    about: str = ""
    """The text that the latest question was about."""

    def __post_init__(self) -> None:
        self.mind = LiveMind(self.limits, segment_ends, self.budget)
        self.document = PromptDocument(10_000)

    def feed(self, event: Event) -> None:
        self.take(self.mind.feed(event, self.now))

    def take(self, actions: list[MindAction]) -> None:
        for action in actions:
            if isinstance(action, Think):
                assert self.mind.is_thinking
                self.asked.append(action)
                self.about = self.document.text[: action.end]
            elif isinstance(action, Stop):
                self.stopped.append(action.job)
            self.done.append(action)

    def type(self, text: str) -> None:
        self.replace(len(self.document.text), len(self.document.text), text)

    def replace(self, start: int, end: int, text: str) -> None:
        self.document.replace(start, end, text)
        self.feed(Retyped(start, self.document.text))

    def wait(self, seconds: float) -> None:
        """Let time pass, as a timer would see it."""
        until = self.now + seconds
        while (due := self.mind.deadline()) is not None and due <= until:
            before = self.now
            self.now = max(self.now, due)
            self.take(self.mind.expire(self.now))
            if self.now == before and self.mind.deadline() == due:
                raise AssertionError("the machine wants to be called again at once")
        self.now = until

    def say(self, text: str = "", num_tokens: int = 10) -> None:
        """Answer the latest question with what it was about, or with `text`."""
        job = self.asked[-1]
        about = text or self.about
        kind = Kind.WAIT if text == "-" else Kind.INFERENCE
        thought = Thought(kind, "" if kind is Kind.WAIT else about)
        self.feed(Thoughtful(job.job, thought, num_tokens))

    @property
    def answers(self) -> list[Answer]:
        return [one for one in self.done if isinstance(one, Answer)]

    @property
    def outcomes(self) -> list[tuple[Outcome, int]]:
        return [(one.outcome, one.num_tokens) for one in self.done if isinstance(one, Ended)]


def test_one_thought_for_every_segment_that_is_complete() -> None:
    desk = Desk()
    desk.type("The train leaves.")
    assert not desk.asked
    desk.type(" It")
    assert [one.end for one in desk.asked] == [len(FIRST)]
    desk.say()
    desk.type(" takes an hour. When")
    assert [one.end for one in desk.asked] == [len(FIRST), len(FIRST + SECOND)]
    assert [one.end for one in desk.asked[1].noted] == [len(FIRST)]
    desk.say()
    desk.type(" is it there?")
    desk.feed(SentOff())
    (answer,) = desk.answers
    assert [one.end for one in answer.noted] == [len(FIRST), len(FIRST + SECOND)]
    account = desk.mind.account()
    assert (account.num_used, account.used_tokens, account.made_tokens) == (2, 20, 20)
    desk.feed(Reset(""))
    assert desk.outcomes == [(Outcome.USED, 10), (Outcome.USED, 10)]


def test_segments_that_come_while_it_thinks_are_taken_together() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.type(SECOND[2:] + "It stops. ")
    desk.type("Wh")
    assert len(desk.asked) == 1
    desk.say()
    assert desk.asked[1].end == len(FIRST + SECOND + "It stops. ")


def test_a_wait_is_not_asked_again_and_not_shown() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.say("-", 3)
    desk.wait(1.0)
    assert len(desk.asked) == 1
    assert desk.mind.shown_to == 0
    assert desk.outcomes == [(Outcome.WAIT, 3)]
    desk.type(SECOND[2:] + "When")
    assert len(desk.asked) == 2


def test_the_end_counts_once_it_is_quiet() -> None:
    desk = Desk()
    desk.type("The train leaves.")
    desk.wait(LIMITS.settle_s * 0.9)
    assert not desk.asked
    desk.wait(LIMITS.settle_s)
    assert [one.end for one in desk.asked] == [len("The train leaves.")]


@pytest.mark.parametrize("text", ["The train lea", "The train leaves the "])
def test_half_a_sentence_never_counts(text: str) -> None:
    desk = Desk()
    desk.type(text)
    desk.wait(60)
    assert not desk.asked


def test_an_edit_drops_what_was_thought_about_that_text() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.say()
    desk.type(SECOND[2:] + "When")
    desk.say()
    assert len(desk.mind.noted) == 2
    start = len(FIRST) + 3
    desk.replace(start, start + 5, "took")
    assert [one.end for one in desk.mind.noted] == [len(FIRST)]
    assert Dropped(1) in desk.done
    assert desk.outcomes == [(Outcome.DROPPED, 10)]
    desk.replace(0, 3, "A")
    assert not desk.mind.noted


def test_an_edit_behind_a_thought_leaves_it() -> None:
    desk = Desk()
    desk.type(FIRST + "Its")
    desk.say()
    desk.replace(len(FIRST) + 2, len(FIRST) + 3, "")
    assert len(desk.mind.noted) == 1


def test_an_edit_stops_a_thought_about_that_text() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.replace(4, 9, "bus")
    assert desk.stopped == [1]
    assert not desk.mind.is_thinking
    desk.say("late", 7)  # it was said before the engine heard of it
    assert not desk.mind.noted
    assert desk.outcomes == [(Outcome.EDITED, 7)]
    desk.wait(5.0)
    assert [one.job for one in desk.asked] == [1, 2]


def test_at_commit_a_running_thought_is_stopped() -> None:
    desk = Desk(replace(LIMITS, at_commit=AtCommit.CANCEL))
    desk.type(FIRST + "It")
    desk.feed(SentOff())
    assert desk.stopped == [1]
    assert desk.answers == [Answer(())]
    desk.feed(Failed(1, 4))
    assert desk.outcomes == [(Outcome.COMMITTED, 4)]
    assert desk.mind.account().made_tokens == 4


def test_at_commit_a_running_thought_is_waited_for() -> None:
    desk = Desk(replace(LIMITS, at_commit=AtCommit.WAIT, wait_s=2.0))
    desk.type(FIRST + "It")
    desk.feed(SentOff())
    assert not desk.answers
    desk.wait(1.0)
    desk.say()
    (answer,) = desk.answers
    assert len(answer.noted) == 1
    assert not desk.stopped


def test_it_is_waited_for_so_long_and_no_longer() -> None:
    desk = Desk(replace(LIMITS, at_commit=AtCommit.WAIT, wait_s=2.0))
    desk.type(FIRST + "It")
    desk.feed(SentOff())
    desk.wait(2.1)
    assert desk.stopped == [1]
    assert desk.answers == [Answer(())]


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
    assert desk.outcomes == [(Outcome.YIELDED, 5)]
    desk.feed(Loaded(0, 0))
    desk.wait(2.0)
    assert len(desk.asked) == 2


def test_what_fails_is_tried_again_later_and_not_if_that_is_useless() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.feed(Failed(1, None))
    assert desk.outcomes == [(Outcome.FAILED, LIMITS.max_tokens)]
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
    desk = Desk(budget=WarmBudget(bucket))
    desk.type(FIRST + "It")
    assert bucket.level(desk.now) == 100 - LIMITS.max_tokens
    desk.say(num_tokens=10)
    assert bucket.level(desk.now) == 90


def test_without_a_budget_it_waits_and_says_so_once() -> None:
    bucket = Bucket(60)
    desk = Desk(budget=WarmBudget(bucket))
    bucket.take(50, 0.0)
    desk.type(FIRST + "It")
    assert not desk.asked
    assert desk.done == [Starved()]
    desk.wait(7.0)
    assert [one.max_tokens for one in desk.asked] == [LIMITS.min_tokens]
    assert desk.done.count(Starved()) == 1


def test_thoughts_may_be_asked_to_be_short() -> None:
    desk = Desk(replace(LIMITS, max_tokens=5), WarmBudget(Bucket(60)))
    desk.type(FIRST + "It")
    assert [one.max_tokens for one in desk.asked] == [5]


def test_another_text_begins_with_nothing() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.say()
    desk.feed(SentOff())
    desk.feed(Reset(""))
    assert not desk.mind.noted
    assert desk.outcomes == [(Outcome.USED, 10)]
    assert desk.mind.account().made_tokens == 0


def test_what_could_not_be_answered_keeps_its_thoughts() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.say()
    desk.feed(SentOff())
    desk.feed(Resumed())
    assert len(desk.mind.noted) == 1
    desk.type(SECOND[2:] + "When")
    assert len(desk.asked) == 2
    desk.say()
    desk.feed(SentOff())
    assert len(desk.answers[-1].noted) == 2
    assert not desk.outcomes


def test_what_is_sent_off_as_soon_as_it_is_complete_is_not_thought_about() -> None:
    desk = Desk(replace(LIMITS, debounce_s=0.05, at_commit=AtCommit.WAIT))
    desk.type(FIRST + SECOND + THIRD)
    desk.feed(SentOff())
    assert desk.answers == [Answer(())]
    assert not desk.asked
    desk.document.clear()
    desk.feed(Reset(""))
    desk.type(FIRST + "It")
    desk.wait(0.03)
    desk.type(" takes")  # whoever types on does not put it off
    desk.wait(0.03)
    assert len(desk.asked) == 1


def test_other_instructions_drop_everything() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.say()
    desk.feed(Reset(desk.document.text))
    assert not desk.mind.noted
    assert desk.outcomes == [(Outcome.DROPPED, 10)]


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
    desk = Desk(replace(LIMITS, at_commit=at_commit), WarmBudget(bucket))
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
