"""What the LiveMind machine thinks about, what edits do to it, and what a commit gets."""

import random
from dataclasses import replace

import pytest

from headstart.stages.mind_events import (
    Answer,
    AtCommit,
    Delayed,
    Dropped,
    Event,
    Failed,
    Reset,
    Resumed,
    SentOff,
    ThoughtOutcome,
)
from headstart.stages.segmenter import segment_ends
from tests.stages.mind_desk import FIRST, LIMITS, SECOND, THIRD, Desk


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
    assert desk.outcomes == [(ThoughtOutcome.USED, 10), (ThoughtOutcome.USED, 10)]


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
    assert desk.outcomes == [(ThoughtOutcome.WAIT, 3)]
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
    assert Dropped() in desk.done
    assert desk.outcomes == [(ThoughtOutcome.DROPPED, 10)]
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
    assert desk.outcomes == [(ThoughtOutcome.EDITED, 7)]
    desk.wait(5.0)
    assert [one.job for one in desk.asked] == [1, 2]


def test_at_commit_a_running_thought_is_stopped() -> None:
    desk = Desk(replace(LIMITS, at_commit=AtCommit.CANCEL))
    desk.type(FIRST + "It")
    desk.feed(SentOff())
    assert desk.stopped == [1]
    assert desk.answers == [Answer(())]
    desk.feed(Failed(1, 4))
    assert desk.outcomes == [(ThoughtOutcome.COMMITTED, 4)]
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


@pytest.mark.parametrize("is_sent_first", [False, True])
def test_one_that_waits_for_a_budget_is_not_waited_for(is_sent_first: bool) -> None:
    desk = Desk(replace(LIMITS, at_commit=AtCommit.WAIT))
    desk.type(FIRST + "It")
    events: list[Event] = [Delayed(1, True), SentOff()]
    for event in reversed(events) if is_sent_first else events:
        desk.feed(event)
    assert desk.stopped == [1]
    assert desk.answers == [Answer(())]
    desk.feed(Failed(1, 0))
    assert desk.outcomes == [(ThoughtOutcome.COMMITTED, 0)]


@pytest.mark.parametrize("event", [Delayed(1, False), Delayed(2, True)])
def test_one_that_has_its_budget_is_waited_for(event: Delayed) -> None:
    desk = Desk(replace(LIMITS, at_commit=AtCommit.WAIT))
    desk.type(FIRST + "It")
    if not event.is_delayed:
        desk.feed(Delayed(1, True))
    desk.feed(event)
    desk.feed(SentOff())
    assert not desk.answers


def test_another_text_begins_with_nothing() -> None:
    desk = Desk()
    desk.type(FIRST + "It")
    desk.say()
    desk.feed(SentOff())
    desk.feed(Reset(""))
    assert not desk.mind.noted
    assert desk.outcomes == [(ThoughtOutcome.USED, 10)]
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
    assert desk.outcomes == [(ThoughtOutcome.DROPPED, 10)]


def test_a_keystroke_has_its_own_segment_cut_and_an_edit_the_rest_once() -> None:
    work: list[int] = []

    def segment(text: str) -> list[int]:
        work.append(len(text))
        return segment_ends(text)

    desk = Desk(replace(LIMITS, max_thoughts=1, min_chars=10_000), segment=segment)
    desk.type("".join(f"This is sentence number {number}. " for number in range(500)))
    work.clear()
    for letter in "And this is one more. And here is another one, too. ":
        desk.type(letter)
    assert max(work) < 200

    work.clear()
    for _ in range(10):
        desk.replace(3, 3, "x")
        desk.wait(0.1)
    assert not work
    desk.wait(LIMITS.edit_settle_s)
    assert len(work) == 1


def test_what_is_cut_bit_by_bit_is_cut_like_the_whole() -> None:
    chooser = random.Random(3)
    words = ["It is", " late", ". Now", "! ", "? He", ", ", " 3.5", "日本。", "\n\n", "e.g. "]
    for _ in range(200):
        desk = Desk(replace(LIMITS, min_chars=10_000))
        for _ in range(30):
            if (length := len(desk.document.text)) and chooser.random() < 0.3:
                start = chooser.randrange(length)
                end = min(length, start + chooser.randrange(9))
                desk.replace(start, end, chooser.choice(words))
            else:
                desk.type(chooser.choice(words))
        desk.wait(LIMITS.edit_settle_s)
        assert desk.mind._ends == segment_ends(desk.document.text)
