"""The parts of `headstart bench livemind` that need no model and no data."""

import asyncio
import json
import math
import random
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headstart.benchmarks import livemind, livemind_model, livemind_sessions
from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.checks import Verdict
from headstart.benchmarks.live_replay import Target
from headstart.benchmarks.livemind import TOGETHER
from headstart.benchmarks.livemind_curves import LARGE, SMALL, Timed, plain, warm_only
from headstart.benchmarks.livemind_keys import is_over
from headstart.benchmarks.livemind_protocol import Asking, Outcome
from headstart.benchmarks.livemind_replay import Arm, Session
from headstart.benchmarks.livemind_scores import WANTED, intervals_check, outcomes_table
from headstart.benchmarks.livemind_sessions import typed_sessions
from headstart.benchmarks.livemind_tokens import Tokens
from headstart.benchmarks.livemind_typing import Edit, haltingly, steadily
from headstart.benchmarks.load import AnswerRefused
from headstart.benchmarks.mmlu_pro import FILE, Question, answer_in
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.typists import Stroke
from headstart.configs.live import LiveSettings, ThinkingSettings
from headstart.configs.settings import BenchSettings, Settings
from headstart.stages.errors import SetupError
from headstart.stages.live_mind import LiveMind, MindLimits
from headstart.stages.mind_events import AtCommit
from headstart.stages.mind_prompt import Format
from headstart.stages.rate_limit import Bucket
from headstart.stages.warm_budget import TokenBudget
from tests.support.gateway import serving, speeds

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


def timed(arm: Arm, edits: Iterable[Edit], budget: TokenBudget | None = None) -> Timed:
    session = Session(QUESTION, tuple(edits), arm, Words(), budget or TokenBudget())
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
    def keyed(budget: TokenBudget) -> Session:
        limits = MindLimits(max_tokens=256, max_running=10**6)
        eager = replace(LARGE, left=0.1)
        arm = Arm("wait", limits=limits, thinker=eager, answerer=eager)
        return Session(QUESTION, tuple(steadily(TEXT)), arm, Words(), budget)

    for budget, is_wrong in ((TokenBudget(Bucket(60)), False), (TokenBudget(), True)):
        session, now = keyed(budget), 0.0
        while session.timed is None:
            now = max(now, session.due)
            session.step(now)
        assert is_over(0, [(0, session)], 60) == is_wrong
        assert (session.num_starved > 0) != is_wrong


def test_a_budget_holds_in_every_stretch_of_time() -> None:
    def goes_over(*made: tuple[float, int]) -> bool:
        session = Session(QUESTION, tuple(steadily(TEXT)), Arm("wait"), Words(), TokenBudget())
        session._made.extend(made)
        return is_over(0, [(0, session), (1, session)], 60)

    assert not goes_over((0.0, 60), (30.0, 30), (60.0, 30))
    assert not goes_over((0.0, 1), (600.0, 60), (601.0, 1))
    assert goes_over((0.0, 1), (600.0, 60), (601.0, 2))
    assert goes_over((0.0, 61))
    assert goes_over((10.0, 31), (0.0, 40))


def test_answers_are_read() -> None:
    assert answer_in("So 3 A is it. The answer is (C).") == "C"
    assert answer_in("the answer is: **(d)**") == "D"
    assert answer_in("It must be (B)") == "B"
    assert answer_in("no idea") is None
    assert "answer is" not in QUESTION.unanswered


def outcome(number: int) -> Outcome:
    return Outcome(0.1 + number, 1.0 + number, 2.0 + number, "B", number % 2 == 0, 1, 90)


def test_every_arm_has_its_intervals() -> None:
    names = ["plain", "ua-spi"]
    found = [{"plain": outcome(number), "ua-spi": outcome(number + 1)} for number in range(8)]
    table = outcomes_table("Models", found, 96)
    named: dict[str, Any] = dict(zip(table.columns, table.rows[1], strict=True))
    assert (named["arm"], named["questions"], named["accuracy"]) == ("ua-spi", 8, 0.5)
    assert named["engine_low"] < named["engine_s"] == 6.5 < named["engine_high"]
    assert named["cut"] == 0
    assert dict(zip(table.columns, outcomes_table("", found, 90).rows[0], strict=True))["cut"] == 1
    whole, few = (names, found), (names, found[:2])
    assert intervals_check((whole, whole), is_quick=False).verdict is Verdict.HOLDS
    check = intervals_check((whole, few), is_quick=False)
    assert (check.verdict, check.estimate.value if check.estimate else None) == (Verdict.FAILS, 2)
    assert intervals_check((whole, few), is_quick=True).verdict is Verdict.NOT_MEASURED
    assert intervals_check(((names, []),), is_quick=False).verdict is Verdict.FAILS
    lacking = intervals_check(((WANTED, found),), is_quick=False)
    assert lacking.estimate is not None
    assert lacking.estimate.value == len(WANTED) - 1  # ua-spi is there


def test_a_run_on_models_has_every_arm_that_it_is_to_have() -> None:
    names = [arm.name for arm in (*livemind_model.ALONE, *livemind_model.TOGETHER)]
    assert len({*names}) == len(names)
    assert {*WANTED} == {"plain chain of thought", *Format, "collaborative"} <= {*names}
    assert not any(arm.thinker == "other" for arm in livemind_model.ALONE)


def test_a_checkpoint_of_other_questions_is_refused_before_anything_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "category": "physics",
            "question": f"{number} {TEXT}",
            "options": ["2:00", "2:40"],
            "answer": "B",
            "reference_cot": REASONING,
        }
        for number in range(2)
    ]
    options = BenchOptions(tmp_path / "out.json", data_dir=tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(livemind, "Tokens", raising)

    def run(num_rows: int, settings: Settings) -> None:
        data = "\n".join(json.dumps(row) for row in rows[:num_rows])
        (tmp_path / FILE).write_text(data)
        livemind.run(settings, options)

    every, fewer = (
        Settings(models=(speeds(),), bench=BenchSettings(livemind_questions=num)) for num in (8, 35)
    )
    for _ in range(2):  # what is made first, and what goes on from it
        with pytest.raises(ReplayBegunError):
            run(2, every)
    with pytest.raises(SetupError, match="of another run"):
        run(1, every)
    with pytest.raises(SetupError, match="of another run"):
        run(2, fewer)


class ReplayBegunError(Exception):
    pass


def raising(_settings: Settings) -> None:
    raise ReplayBegunError


def test_shipped_limits_are_those_of_the_settings() -> None:
    shipped = ThinkingSettings(max_tokens=7, wait_s=3.0)
    arms = {arm.at_commit: arm for arm in livemind.shipped(shipped)}
    assert arms.keys() == {*AtCommit}
    assert {(arm.limits.max_tokens, arm.limits.wait_s) for arm in arms.values()} == {(7, 3.0)}
    edits = [*steadily(TEXT)]
    cut, whole = timed(arms[AtCommit.WAIT], edits), timed(Arm("wait"), edits)
    assert cut.thought_tokens <= 7 * cut.num_thoughts
    assert cut.thought_tokens < whole.thought_tokens


@pytest.mark.anyio
async def test_questions_are_typed_into_the_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(livemind_sessions, "_REST_S", 0.0)
    monkeypatch.setattr(livemind_sessions, "script", quickly)
    path = tmp_path / "out"
    asked = [QUESTION, replace(QUESTION, number=2, text="Short?"), replace(QUESTION, number=3)]
    thinking = ThinkingSettings(interval_s=0.0)
    live = LiveSettings(debounce_s=0.001, edit_debounce_s=0.001, thinking=thinking)
    async with serving(speeds(answer_tokens=16, tokens_per_s=2000.0), live=live) as gateway:
        target = Target(gateway.url, "fake")
        found = await typed_sessions(target, Checkpoint(path, {}), asked, 9, 12, math.inf)
        num_asked = len(gateway.replica.requests)
        again = await typed_sessions(target, Checkpoint(path, {}), asked, 9, 12, math.inf)
        assert len(gateway.replica.requests) == num_asked + 1  # the warm-up
    assert again == found
    assert [[*one] for one in found] == [[arm.name for arm in livemind_sessions.ARMS]] * 2
    outcomes = found[0]
    assert {one.output_tokens for one in outcomes.values()} == {12}
    assert all(0 < one.first_token_s <= one.whole_s for one in outcomes.values())
    plain_asked, warm, shipped, waits = outcomes.values()
    assert (plain_asked.num_thoughts, warm.num_thoughts) == (0, 0)
    assert waits.num_thoughts > 0
    assert shipped.num_thoughts <= waits.num_thoughts


def quickly(_arm: str, text: str, _seed: int) -> list[Stroke]:
    """Sentence by sentence, with time to think between."""
    ends = [at + 2 for at in range(len(text)) if text[at : at + 2] == ". "] + [len(text)]
    starts = [0, *ends]
    return [
        Stroke(0.15, start, start, text[start:end])
        for start, end in zip(starts, ends, strict=False)
    ]


@pytest.mark.anyio
async def test_the_other_model_thinks_in_the_collaborative_arm_alone(tmp_path: Path) -> None:
    limits = MindLimits(max_tokens=8)
    checkpoint = Checkpoint(tmp_path / "out", {})
    own, other = speeds(tokens_per_s=2000.0), speeds("other", tokens_per_s=2000.0)
    async with serving(own, other) as gateway:
        asked = [QUESTION, replace(QUESTION, number=2)]
        alone = await asyncio.to_thread(
            livemind_model._ask_all,
            Asking(gateway.url, "fake", "fake", 12, limits),
            asked,
            checkpoint,
            livemind_model.ALONE,
            math.inf,
        )
        assert not gateway.replicas[1].requests
        together = await asyncio.to_thread(
            livemind_model._ask_all,
            Asking(gateway.url, "fake", "other", 12, limits),
            asked,
            checkpoint,
            livemind_model.TOGETHER,
            math.inf,
        )
        assert len(gateway.replicas[1].requests) > 1  # the first only warms it up
    found = [one | two for one, two in zip(alone, together, strict=True)]
    assert intervals_check(((WANTED, found * 2),), is_quick=False).verdict is Verdict.HOLDS


@pytest.mark.anyio
async def test_a_model_is_called_and_timed_like_any_request() -> None:
    limits = MindLimits()
    async with serving(speeds(answer_tokens=16, time_to_first_token_s=0.05)) as gateway:
        asking = Asking(gateway.url, "fake", "fake", 12, limits)
        messages = [{"role": "user", "content": "Say twelve."}]
        said = await asyncio.to_thread(asking.call, "salt", "fake", messages, 12)
        (asked,) = gateway.replica.requests
        with pytest.raises(AnswerRefused, match="other"):
            await asyncio.to_thread(asking.call, "salt", "other", messages, 12)
    assert said.num_tokens == 12
    assert said.text
    assert 0.05 <= said.first_s < said.whole_s
    body = json.loads(asked.body)
    assert (body["cache_salt"], body["messages"], body["ignore_eos"]) == ("salt", messages, False)
