"""The parts of `headstart bench livemind` that need no model and no data."""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from headstart.benchmarks import livemind
from headstart.benchmarks.livemind import TOGETHER
from headstart.benchmarks.livemind_curves import LARGE, SMALL, Timed, plain, warm_only
from headstart.benchmarks.livemind_model import wilson
from headstart.benchmarks.livemind_replay import Arm, Session
from headstart.benchmarks.livemind_tokens import Tokens
from headstart.benchmarks.livemind_typing import Edit, haltingly, steadily
from headstart.benchmarks.mmlu_pro import Question, answer_in
from headstart.stages.live_mind import LiveMind, MindLimits
from headstart.stages.mind_events import AtCommit
from headstart.stages.rate_limit import Bucket
from headstart.stages.warm_budget import WarmBudget

TEXT = (
    "A train leaves the first station at noon. It takes ninety minutes to the second. "
    "There it waits for ten minutes. Then it goes on to the third, which takes an hour. When is it?"
)
REASONING = "It leaves at noon and so on. " * 40 + "The answer is (B)."
QUESTION = Question(1, "physics", TEXT, "\n(A) 2:00 (B) 2:40", 2, "B", REASONING)


class Words(Tokens):
    """A token is a word, and so is whatever surrounds a message."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, text: str) -> int:
        return len(text.split())

    def rendered(self, messages: list[Any]) -> list[int]:
        words = [
            word
            for one in messages
            for word in (f"<{one['role']}>", *one["content"].split(), "<end>")
        ]
        return [self._known.setdefault(word, len(self._known)) for word in [*words, "<assistant>"]]


def timed(arm: Arm, edits: Iterable[Edit], budget: WarmBudget | None = None) -> Timed:
    session = Session(QUESTION, tuple(edits), arm, Words(), budget or WarmBudget())
    now = 0.0
    while session.timed is None:
        now = max(now, session.due)
        session.step(now)
    return session.timed


def test_thinking_saves_what_it_is_set_to_save() -> None:
    base, warm = plain(QUESTION, Words(), LARGE), warm_only(QUESTION, Words(), LARGE)
    found = timed(Arm("wait"), steadily(TEXT))
    assert found.num_thoughts == 4
    assert found.wait_s < 2.0
    assert found.left_share == LARGE.left
    left = (found.whole_s - found.wait_s) / base.whole_s
    assert left == pytest.approx(LARGE.left, abs=0.05)
    assert found.first_token_s - found.wait_s < base.first_token_s
    assert found.first_token_s - found.wait_s == pytest.approx(warm.first_token_s, rel=0.35)
    assert found.engine_s > 0.9 * base.engine_s


def test_a_thought_in_the_making_is_waited_for_or_stopped() -> None:
    quick = tuple(replace(one, at=one.at / 40) for one in steadily(TEXT))
    waiting = timed(Arm("wait"), quick)
    stopping = timed(Arm("cancel", at_commit=AtCommit.CANCEL), quick)
    assert waiting.wait_s > 0.5
    assert stopping.wait_s == 0.0
    assert waiting.num_thoughts == stopping.num_thoughts + 1
    assert stopping.first_token_s < waiting.first_token_s


def test_a_small_model_answers_with_the_thoughts_of_a_large_one() -> None:
    alone = plain(QUESTION, Words(), SMALL)
    large, found = timed(Arm("wait"), steadily(TEXT)), timed(TOGETHER[0], steadily(TEXT))
    stopped = timed(TOGETHER[1], steadily(TEXT))
    assert (found.num_thoughts, found.thought_tokens) == (4, large.thought_tokens)
    assert found.wait_s == large.wait_s
    assert (found.whole_s - found.wait_s) / alone.whole_s == pytest.approx(SMALL.left, abs=0.1)
    assert found.engine_s > 3 * alone.engine_s
    # The thought that came last is computed elsewhere: the small model has yet to read it.
    assert found.first_token_s - found.wait_s > SMALL.curve.prefill_s(60)
    # Whoever is stopped computes on another engine: the answer begins at once.
    assert stopped.wait_s == 0.0
    assert stopped.first_token_s < found.first_token_s


@pytest.mark.parametrize("seed", range(5))
def test_corrections_end_in_the_text_and_in_no_wrong_thought(seed: int) -> None:
    edits = tuple(haltingly(TEXT, random.Random(seed)))
    assert not timed(Arm("wait"), edits).is_wrong


def test_a_thought_that_outlived_its_text_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LiveMind, "_forget", lambda *_: [])
    edits = [tuple(haltingly(TEXT, random.Random(seed))) for seed in range(5)]
    assert any(timed(Arm("wait"), one).is_wrong for one in edits)


def test_a_budget_that_was_exceeded_would_be_noticed() -> None:
    def keyed(budget: WarmBudget) -> Session:
        limits = MindLimits(max_tokens=256, max_running=10**6)
        eager = replace(LARGE, left=0.1)
        arm = Arm("wait", limits=limits, thinker=eager, answerer=eager)
        return Session(QUESTION, tuple(steadily(TEXT)), arm, Words(), budget)

    for budget, is_over in ((WarmBudget(Bucket(60)), False), (WarmBudget(), True)):
        session, now = keyed(budget), 0.0
        while session.timed is None:
            now = max(now, session.due)
            session.step(now)
        assert livemind._is_over(0, [(0, session)], 60) == is_over
        assert (session.num_starved > 0) != is_over


def test_a_budget_holds_in_every_stretch_of_time() -> None:
    def is_over(*made: tuple[float, int]) -> bool:
        session = Session(QUESTION, tuple(steadily(TEXT)), Arm("wait"), Words(), WarmBudget())
        session._made.extend(made)
        return livemind._is_over(0, [(0, session), (1, session)], 60)

    assert not is_over((0.0, 60), (30.0, 30), (60.0, 30))
    assert not is_over((0.0, 1), (600.0, 60), (601.0, 1))
    assert is_over((0.0, 1), (600.0, 60), (601.0, 2))
    assert is_over((0.0, 61))
    assert is_over((10.0, 31), (0.0, 40))


def test_answers_are_read() -> None:
    assert answer_in("So 3 A is it. The answer is (C).") == "C"
    assert answer_in("the answer is: **(d)**") == "D"
    assert answer_in("It must be (B)") == "B"
    assert answer_in("no idea") is None
    assert "answer is" not in QUESTION.unanswered


def test_intervals_of_shares() -> None:
    low, high = wilson(5, 10)
    assert low == pytest.approx(0.2366, abs=1e-3)
    assert high == pytest.approx(0.7634, abs=1e-3)
    assert wilson(0, 0) == (None, None)
