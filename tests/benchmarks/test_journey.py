"""`bench journey`: what its clients do, how it is resumed, and that its bars can fail."""

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from headstart.benchmarks import journey
from headstart.benchmarks import journey_scores as scores
from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.checks import Verdict
from headstart.benchmarks.child import command
from headstart.benchmarks.journey_client import Features, Go, Meet
from headstart.benchmarks.journey_measured import (
    RIVAL,
    Measured,
    Prompt,
    arm_name,
    measured,
    timing_in,
)
from headstart.benchmarks.journey_rig import JourneyRig
from headstart.benchmarks.link_flows import TCP, UDP, Passed
from headstart.benchmarks.live_prompts import num_sentences
from headstart.benchmarks.lossy_link import Crossed
from headstart.benchmarks.shipped_clients import Turn
from headstart.benchmarks.socket_orders import Enter
from headstart.benchmarks.socket_readers import Shown
from headstart.benchmarks.typists import TYPIST, compressed, script, seconds
from headstart.configs.serving import QuicSettings
from headstart.stages.errors import SetupError
from tests.support.gateway import serving, speeds

TEXT = "Farmer Ann keeps nine hens. They lay well. How many eggs do nine hens lay in a week?"
ALL, NONE = scores.ALL, scores.NONE
RIVALS_METRICS = (
    'vllm:request_queue_time_seconds_sum{engine="0"}',
    'vllm:request_prefill_time_seconds_sum{engine="0"}',
    'vllm:request_decode_time_seconds_sum{engine="0"}',
    'vllm:prompt_tokens_total{engine="0"}',
    'vllm:prompt_tokens_by_source_total{engine="0"}',
    'vllm:prompt_tokens_cached_total{engine="0"}',
)


def travelled(arms: Sequence[Features | None]) -> tuple[list[Turn], list[dict[str, Any]]]:
    """Have the client's own process ask a gateway here; returns what came and what was asked."""

    async def run() -> tuple[list[Turn], list[dict[str, Any]]]:
        async with serving(
            speeds(tokens_per_s=200.0, prefill_tokens_per_s=4000.0), quic=QuicSettings()
        ) as gateway:
            argv = command("headstart.benchmarks.journey_client", "serve")
            client = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)
            assert client.stdin is not None
            assert client.stdout is not None
            strokes = compressed(script(TYPIST, TEXT, 1), 20.0)
            client.stdin.write(msgspec.json.encode(Enter()) + b"\n")
            came: list[Turn] = []
            for features in arms:
                for order in (
                    Meet(gateway.url, "fake", features),
                    Go(TEXT, strokes, 60, arm_name(features)),
                ):
                    client.stdin.write(msgspec.json.encode(order) + b"\n")
                assert await asyncio.wait_for(client.stdout.readline(), 60) == b"true\n"
                line = await asyncio.wait_for(client.stdout.readline(), 60)
                came.append(msgspec.json.decode(line, type=Turn))
            client.stdin.close()
            assert await client.wait() == 0
            bodies = [msgspec.json.decode(one.body) for one in gateway.replica.requests]
            return came, [body for body in bodies if body["max_tokens"] == 60]

    return asyncio.run(run())


def test_every_arm_is_asked_the_same_and_answered_to_the_end() -> None:
    arms = [None, *scores.ARMS]
    came, asked = travelled(arms)

    assert len({one.text for one in came}) == 1
    for features, one, body in zip(arms, came, asked, strict=True):
        shown = one.shown
        assert shown.is_whole, shown.why
        assert shown.tokens[-1] == len(one.text)
        assert one.asked_at < shown.at[0] <= shown.at[-1]
        assert body["messages"] == [{"role": "user", "content": TEXT}]
        assert body["cache_salt"] == arm_name(features)
        assert body["temperature"] == 0
        drafting = None if features is None else "auto" if features.speculation else "off"
        arguments = body.get("vllm_xargs") or {}
        assert arguments.get("headstart_speculation") == drafting
        if features is None or not features.datagrams:
            assert one.by_datagrams == 0
    by_datagrams = [one.by_datagrams for one in (came[1 + scores.ARMS.index(ALL)],)]
    assert min(by_datagrams) > 0


def test_an_answer_that_never_comes_whole_ends_the_run_with_what_is_known() -> None:
    rig = FakeRig(Turn(0.0, Shown()), Crossed([], 0.0, 0))

    with pytest.raises(SetupError, match="in 3 tries: given up; given up; given up"):
        rig.measure(ALL, prompt(0), 8)


class FakeRig(JourneyRig):
    """Clients get what they get, and nothing runs."""

    def __init__(self, turn: Turn, crossed: Crossed) -> None:
        arm = SimpleNamespace(name="server", awake=_Awake)
        server = SimpleNamespace(arm=arm, url="http://10.0.0.1:1", model="tiny")
        self.servers = [server, server]  # type: ignore[list-item]
        self.asked: list[Features | None] = []
        self._turn, self._crossed, self._key = turn, crossed, "none"
        self._client = SimpleNamespace(hear=self._heard)  # type: ignore[assignment]

    def _heard(self, reply: Any) -> Any:
        return True if reply is bool else self._turn

    def _order(self, order: Any, reply: Any) -> Any:
        return True if reply is bool else self._crossed

    def _tell(self, order: Any) -> None:
        if isinstance(order, Meet):
            self.asked.append(order.features)

    def _meters(self, server: Any) -> dict[str, float]:
        return dict.fromkeys(RIVALS_METRICS, 1.0)

    def _asked(self, server: Any, stream_id: str) -> dict[str, Any]:
        stages_s = {"queue": 0.0, "prefill": 0.1, "decode": 1.0}
        counts = {"prompt_tokens": 9, "cached_prompt_tokens": 8}
        return {"stages_s": stages_s, "speculation": None, **counts}


class _Awake:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def prompt(number: int) -> Prompt:
    return Prompt(number, TEXT, script(TYPIST, TEXT, 1), 9.0, 1)


def test_a_killed_run_goes_on_and_every_arm_has_every_prompt(tmp_path: Path) -> None:
    turn = Turn(5.0, Shown("a", [3, 6], [5.5, 6.0], True), "Hello!", 3)
    path = tmp_path / "out.checkpoint.jsonl"
    plan = journey.Plan(2, 1.0, 1.0, 8)
    typed = [prompt(0), prompt(1)]
    rig = FakeRig(turn, Crossed([Passed(TCP, 1, 9, 900, 1)], 0.0, 0))

    found = journey._travel(rig, plan, typed, Checkpoint(path, {}))
    orders = [rig.asked[2 + at * 9 : 2 + (at + 1) * 9] for at in range(2)]
    assert orders[0] != orders[1]
    assert [{arm_name(each) for each in order} for order in orders] == [set(one) for one in found]

    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:-4]) + b"\n")
    again = FakeRig(turn, Crossed([Passed(TCP, 1, 9, 900, 1)], 0.0, 0))
    assert journey._travel(again, plan, typed, Checkpoint(path, {})) == found
    assert len(again.asked) == 2 + 3  # what is loaded lazily, and what was lost


def test_prompts_are_long_and_end_in_real_time() -> None:
    questions = [f"Ann has {number} hens. They are old. Why?" for number in range(400)]
    plan = journey.Plan(3, 50.0, 3.0, 8)
    quick = journey.prompts_of(questions, plan, is_quick=True)
    full = journey.prompts_of(questions, plan, is_quick=False)

    for one in quick:
        text = ""
        for stroke in one.strokes:
            text = text[: stroke.start] + stroke.text + text[stroke.end :]
        assert text == one.text
        assert num_sentences(text) > 20
        real = script(TYPIST, one.text, journey.SEED + one.number)
        assert one.strokes[-8:] == real[-8:]
        assert one.strokes[0].wait_s == pytest.approx(real[0].wait_s / 50)
        assert one.typed_s == pytest.approx(seconds(real))
    assert not {one.text for one in quick} & {one.text for one in full}
    assert len({one.seed for one in [*quick, *full]}) == 6


def test_a_journey_is_put_together_from_all_who_know_of_it() -> None:
    turn = Turn(10.0, Shown("a", [4, 10], [10.5, 12.0], True), "0123456789", 5)
    passed = [Passed(TCP, 1, 10, 1000, 1), Passed(UDP, 2, 20, 3000, 2)]
    used = {
        'headstart_live_stage_seconds_sum{model="m",stage="warm"}': 0.7,
        'headstart_live_stage_seconds_sum{model="m",stage="render"}': 9.0,
        'headstart_live_warm_tokens_total{model="m"}': 64.0,
        'headstart_live_wasted_tokens_total{model="m"}': 32.0,
    }
    timing = {
        "stages_s": {"queue": 0.01, "prefill": 0.2, "decode": 1.0},
        "prompt_tokens": 100,
        "cached_prompt_tokens": 64,
        "speculation": {"drafted": 8, "accepted": 4, "steps": 6},
    }
    one = measured(prompt(3), ALL.name, turn, timing, used, Crossed(passed, 0.002, 0), [])

    assert (one.first_s, one.last_s) == (0.5, 2.0)
    assert (one.until(0.0), one.until(0.4), one.until(0.5)) == (0.5, 0.5, 2.0)
    assert one.engine_s == pytest.approx(0.7 + 0.2 + 1.0)
    assert (one.ahead_tokens, one.wasted_tokens, one.drafted, one.steps) == (64, 32, 8, 6)
    assert (one.down_packets, one.down_lost, one.down_bytes) == (30, 3, 4000)
    assert one.by_datagrams == 0.5


def test_the_rivals_metrics_are_read_as_our_timing_is() -> None:
    used = dict(zip(RIVALS_METRICS, (0.01, 1.5, 2.5, 700.0, 700.0, 0.0), strict=True))

    assert timing_in(used) == {
        "stages_s": {"queue": 0.01, "prefill": 1.5, "decode": 2.5},
        "prompt_tokens": 700,
        "cached_prompt_tokens": 0,
        "speculation": None,
    }
    used.popitem()
    with pytest.raises(SetupError, match="vllm:prompt_tokens_cached_total"):
        timing_in(used)


def made(arm: str, number: int, first_s: float, last_s: float) -> Measured:
    return Measured(
        prompt=number,
        arm=arm,
        typed_s=100.0,
        shown_s=[first_s, (first_s + last_s) / 2, last_s],
        shown_chars=[10, 50, 100],
        by_datagrams=0.0,
        text="x" * 100,
        stages_s={"parse": 0.01, "queue": 0.01, "prefill": 0.6 * first_s, "decode": last_s / 2},
        prompt_tokens=800,
        cached_tokens=0,
        ahead_s=0.0,
        ahead_tokens=0,
        wasted_tokens=80,
        drafted=0,
        accepted=0,
        steps=None,
        down_packets=100,
        down_lost=10,
        down_bytes=9000,
        late_p99_s=0.001,
        failures=[],
    )


def arms_like(first_s: float, last_s: float, num: int = 12) -> dict[str, list[Measured]]:
    """The rival takes 2 s and 6 s, ours so long, each feature a fifth less."""
    found = {RIVAL: [made(RIVAL, number, 2.0 + number / 99, 6.0) for number in range(num)]}
    for arm in scores.ARMS:
        factor = 0.8 ** sum(msgspec.structs.astuple(arm)) / 0.8**3
        found[arm.name] = [
            made(arm.name, number, first_s * factor + number / 999, last_s * factor)
            for number in range(num)
        ]
    return found


@pytest.mark.parametrize(
    ("first_s", "last_s", "verdicts"),
    [
        (0.3, 2.0, ["holds", "holds"]),
        (0.3, 5.5, ["holds", "fails"]),
        (1.9, 2.0, ["fails", "holds"]),
    ],
)
def test_bars_are_judged_and_can_fail(first_s: float, last_s: float, verdicts: list[str]) -> None:
    found = arms_like(first_s, last_s)
    first, last, whole = scores.checks(found, is_quick=False)

    assert [first.verdict, last.verdict] == verdicts
    assert whole.verdict is Verdict.HOLDS
    assert ("goal of 0.2 is reached" in first.note) == (first_s < 0.4)
    assert "60% prefill" in first.note
    assert [check.bar for check in (first, last, whole)] == [
        check.bar for check in scores.unmeasured("why")
    ]

    found[ALL.name][0] = replace(found[ALL.name][0], failures=["given up"])
    assert list(scores.checks(found, is_quick=False))[2].verdict is Verdict.FAILS


def test_two_prompts_decide_nothing() -> None:
    first, last, _ = scores.checks(arms_like(0.3, 2.0, num=2), is_quick=True)

    assert {first.verdict, last.verdict} == {Verdict.NOT_MEASURED}


def test_tables_say_what_each_feature_is_worth() -> None:
    tables = {table.title.partition(":")[0]: table for table in scores.tables(arms_like(0.3, 2.0))}

    worth = [
        dict(zip(table.columns, row, strict=True))
        for table in tables.values()
        if table.title.startswith("What each feature")
        for row in table.rows
    ]
    assert len(worth) == 6
    assert all(row["on / off"] == pytest.approx(0.8, rel=0.02) for row in worth)
    assert all(row["alone"] == pytest.approx(0.8, rel=0.02) for row in worth)
    parts = tables["Where the time goes, means"]
    for row in parts.rows:
        assert sum(float(each or 0) for each in row[3:]) == pytest.approx(float(row[2] or 0))
    costs = tables["What it costs, means of a prompt"]
    cost = dict(zip(costs.columns, costs.rows[0], strict=True))
    assert (cost["waste/token"], cost["of them lost"]) == (0.1, 0.1)


LOOP = "and so on, " * 40


def looping(found: dict[str, list[Measured]], numbers: set[int]) -> dict[str, list[Measured]]:
    """Have the rival's answers to some prompts loop, and ours be there at once."""
    return {
        name: [
            one
            if one.prompt not in numbers
            else replace(one, text=LOOP)
            if name == RIVAL
            else replace(one, shown_s=[one.first_s, one.first_s, one.first_s])
            for one in some
        ]
        for name, some in found.items()
    }


def test_answers_that_loop_are_judged_by_their_first_token_alone() -> None:
    slow = arms_like(0.3, 5.5)
    _, last, _ = scores.checks(looping(slow, {0, 1, 2}), is_quick=False)

    assert last.verdict is Verdict.FAILS
    assert last.estimate is not None
    assert last.estimate.value == pytest.approx(5.5 / 6.0, rel=1e-6)
    assert "9 of 12 prompts" in last.note
    first, last, _ = scores.checks(looping(slow, set(range(12))), is_quick=False)
    assert first.verdict is Verdict.HOLDS
    assert (last.verdict, last.note) == (Verdict.NOT_MEASURED, "every answer loops")


def test_looping_answers_are_told_apart_in_a_table() -> None:
    tables = scores.tables(looping(arms_like(0.3, 5.5), {0, 1, 2}))
    table = next(each for each in tables if each.title.startswith("All of ours"))

    counts = {(row[0], row[2]): row[1] for row in table.rows}
    assert counts[("all", "last")] == 12
    assert counts[("loop", "last")] == 3
    assert counts[("do not loop", "last")] == 9
