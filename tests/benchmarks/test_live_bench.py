"""`bench live` from end to end, around a gateway with a fake engine."""

from pathlib import Path

import pytest

from headstart.benchmarks import live
from headstart.benchmarks import live_scores as scores
from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.live_exactness import compare
from headstart.benchmarks.live_interference import CrowdPlan, interference
from headstart.benchmarks.live_prompts import LONG, SHORT
from headstart.benchmarks.live_replay import Lengths, Part, Replay, Target
from headstart.benchmarks.load import AnswerRefused
from headstart.benchmarks.typists import EDITED, PASTED, TYPIST
from headstart.configs.live import LiveSettings, ThinkingSettings
from tests.support.gateway import Gateway, serving, speeds

pytestmark = pytest.mark.anyio

SCALE = 400.0
QUESTIONS = [
    f"Farmer {number} keeps {number} hens here. " + "They lay eggs. " * (number % 5) + "Why?"
    for number in range(300)
]
MODEL = speeds(prefill_tokens_per_s=1500.0, time_to_first_token_s=0.001, answer_tokens=64)
LIVE = LiveSettings(debounce_s=0.1 / SCALE, edit_debounce_s=0.5 / SCALE)
PLAN = live.Plan(
    Part("real time", SCALE, at_once=2, alone_s=0.1, arms={TYPIST: 1}, num_whole=0),
    (SHORT,),
    Part(
        "compressed",
        SCALE,
        at_once=3,
        alone_s=0.2,
        arms={"240": 2, TYPIST: 1, PASTED: 1},
        num_whole=1,
    ),
    late_edits=1,
    lengths=Lengths(4, 12),
    exact_tokens=64,
    crowd=CrowdPlan(1, 6, answer_tokens=4, probe_requests=8, begin_s=0.0, quiet_s=0.5),
    exact={LONG.name: 2},
)


def target(gateway: Gateway) -> Target:
    return Target(gateway.url, "fake")


async def test_typed_measured_and_judged(tmp_path: Path) -> None:
    texts = live.texts_of(QUESTIONS, PLAN, is_quick=True)
    path = tmp_path / "out.checkpoint.jsonl"
    checkpoint = Checkpoint(path, {})
    async with serving(MODEL, live=LIVE) as gateway:
        replay = Replay(target(gateway), checkpoint, PLAN.lengths, seed=1)
        measured = await replay.measure(PLAN.compressed, texts.compressed, PLAN.late_edits)
        compared = await compare(target(gateway), checkpoint, texts.exact, PLAN.exact_tokens, 1)
        rounds = await interference(
            target(gateway), checkpoint, PLAN.crowd, texts.ordinary, texts.typed_beside, seed=1
        )
        await gateway.unused()
        resumed = Checkpoint(path, {})
        num_asked = len(gateway.replica.requests)
        replay = Replay(target(gateway), resumed, PLAN.lengths, seed=1)
        again = await replay.measure(PLAN.compressed, texts.compressed, PLAN.late_edits)
        assert len(gateway.replica.requests) == num_asked  # it had all of it

    assert again == measured
    assert len(measured) == 3 * 4 + 1
    assert all(one.is_same for one in measured)
    by_arm = {one.arm: one for one in measured if one.length == LONG.name}
    for arm in ("240", TYPIST, EDITED):
        one = by_arm[arm]
        # How much depends on how busy this machine is.
        assert one.live.cached_tokens > 0, arm
        assert one.live.stages_s["prefill"] < one.plain.stages_s["prefill"], arm
        assert 0 < one.live.first_s <= one.live.whole_s
        assert one.live.ahead_tokens >= one.live.cached_tokens
        assert one.live.ahead_s > 0
    assert by_arm["240"].plain.cached_tokens < by_arm["240"].plain.prompt_tokens / 2
    assert all(one.is_same for one in compared)
    assert all(one.cached_tokens > 0 for one in compared)
    assert [one.answer_tokens for one in compared] == [64, 64]
    assert {one.plain.output_tokens for one in measured if one.is_whole} == {12}
    assert {one.live.output_tokens for one in measured if not one.is_whole} == {4}
    assert sum(one.is_whole for one in measured) == 3 * 3 + 1
    ((crowd),) = rounds.crowds
    assert len(crowd.alone_s) == len(crowd.beside_s) == 6
    made = [
        *scores.replay_checks(measured, is_quick=True),
        scores.interference_check(rounds, is_quick=True),
        *scores.exact_checks(compared, is_quick=True),
    ]
    assert [check.bar for check in made] == scores.bars()


async def test_a_refusal_ends_the_run_and_keeps_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "out"
    prompts = {SHORT.name: ["Why? Because."], LONG.name: ["No. " * 40]}
    part = Part("compressed", SCALE, at_once=1, alone_s=0.1, arms={PASTED: 1}, num_whole=0)
    short = LiveSettings(max_chars=1024)
    async with serving(MODEL, live=short) as gateway:
        found = await Replay(target(gateway), Checkpoint(path, {}), PLAN.lengths, 1).measure(
            part, prompts
        )
        prompts[LONG.name] = ["No. " * 400]
        path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:-2]) + b"\n")
        with pytest.raises(ExceptionGroup) as raised:
            await Replay(target(gateway), Checkpoint(path, {}), PLAN.lengths, 1).measure(
                part, prompts
            )
    assert raised.group_contains(AnswerRefused, match="text_too_long")
    assert len(found) == 2
    assert Checkpoint(path, {}).num_resumed == 1


async def test_requests_asked_alone_have_no_thoughts_beside_them(tmp_path: Path) -> None:
    thinking = ThinkingSettings(settle_s=0.3, interval_s=0.0, max_tokens=16)
    settings = LiveSettings(debounce_s=0.01, edit_debounce_s=0.01, thinking=thinking)
    model = speeds(answer_tokens=64, tokens_per_s=100.0)
    plan = CrowdPlan(1, 12, answer_tokens=32, probe_requests=8, begin_s=0.2, quiet_s=3.0)
    asked = [f"How many are {number}?" for number in range(12)]
    typed = ["Eight hens. They lay. " * 30]
    async with serving(model, live=settings) as gateway:
        rounds = await interference(
            target(gateway),
            Checkpoint(tmp_path / "out", {}),
            plan,
            asked,
            typed,
            seed=1,
            session={"mode": "livemind"},
        )
    (crowd,) = rounds.crowds
    assert crowd.ahead_alone == 0
