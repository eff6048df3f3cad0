"""Half an hour of readers that behave badly: does anything pile up?

Run by `headstart bench soak`; around the fake engine. Readers hang up, cancel, dawdle and come
back at random, while the memory of gateway and replicas is sampled.
"""

import asyncio
import random
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from headstart.benchmarks import report
from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.estimates import exactly
from headstart.benchmarks.fault_daemon import FaultyDaemon
from headstart.benchmarks.fault_readers import Answer, ask, chat, transcript
from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Report, Table
from headstart.configs.model_settings import FakeEngineSettings, ModelSettings
from headstart.configs.settings import Settings

__all__ = ["run"]

SEED = 31
PATH = "/v1/chat/completions"
KEEP_S = 10.0
"""How long finished answers stay: short, so that what is kept soon stops growing."""
SETTLE_S = 60.0
SAMPLE_S = 1.0

MODEL = ModelSettings(
    name="fake",
    engine="fake",
    replicas=2,
    fake=FakeEngineSettings(time_to_first_token_s=0.02, tokens_per_s=100),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done."""

    seconds: float
    readers: int


FULL, QUICK = Plan(1800, 16), Plan(120, 16)


@dataclass
class Found:
    """What happened, and what was left."""

    acts: Counter[str]
    wrong: int
    samples: list[tuple[float, int]]
    """Seconds since the start, resident bytes of gateway and replicas."""
    tasks: tuple[float, float]
    """On the gateway's loop, before and after."""
    left: dict[str, float]


def run(settings: Settings, options: BenchOptions) -> int:
    """Misbehave, write the report, and return the exit status.

    Raises:
        SetupError: The daemon does not start, or ends.
    """
    origin = here()
    began = time.monotonic()
    plan = QUICK if options.is_quick else FULL
    streams = settings.streams.model_copy(update={"finished_ttl_s": KEEP_S})
    own = settings.model_copy(update={"streams": streams})
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as name:
        daemon = FaultyDaemon(own, MODEL, Path(name))
        try:
            found = asyncio.run(_soak(daemon, plan))
        finally:
            daemon.arm.stop()
    result = Report(
        name="soak",
        origin=origin,
        is_quick=options.is_quick,
        config={"plan": asdict(plan), "seed": SEED, "model": MODEL.model_dump(mode="json")},
        tables=[
            Table("what readers did", ("act", "times"), tuple(sorted(found.acts.items()))),
            Table("what was left", ("what", "how many"), tuple(found.left.items())),
            _memory(found),
        ],
        checks=_checks(found, is_quick=options.is_quick),
        duration_s=time.monotonic() - began,
    )
    report.write(result, options.json_path)
    return result.exit_status


async def _soak(daemon: FaultyDaemon, plan: Plan) -> Found:
    found = Found(Counter(), 0, [], (0, 0), {})
    await daemon.healed(time.monotonic())  # each link has tasks of its own
    began = time.monotonic()
    before = daemon.gauge("headstart_event_loop_tasks")
    readers = [
        asyncio.ensure_future(_misbehave(daemon, began + plan.seconds, number, found))
        for number in range(plan.readers)
    ]
    while not all(reader.done() for reader in readers):
        await asyncio.sleep(SAMPLE_S)
        rss = await asyncio.to_thread(daemon.rss_bytes)
        found.samples.append((time.monotonic() - began, rss))
    await asyncio.gather(*readers)
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            await daemon.until(lambda: not any(_left(daemon, before).values()))
    found.left = _left(daemon, before)
    found.tasks = (before, daemon.gauge("headstart_event_loop_tasks"))
    return found


def _left(daemon: FaultyDaemon, tasks_before: float) -> dict[str, float]:
    return {
        "live streams": daemon.gauge("headstart_streams{", 'state="live"'),
        "kept streams": daemon.gauge("headstart_streams{", 'state="finished"'),
        "requests in a stage": daemon.gauge("headstart_stage_inflight"),
        "requests running in engines": daemon.gauge("headstart_replica_running_requests"),
        "requests waiting in engines": daemon.gauge("headstart_replica_waiting_requests"),
        # One more for the connection that asks.
        "tasks": max(0, daemon.gauge("headstart_event_loop_tasks") - tasks_before - 1),
    }


async def _misbehave(daemon: FaultyDaemon, until: float, number: int, found: Found) -> None:
    draw = random.Random(SEED + number)  # noqa: S311 - repeatable, not secret
    acts = (_read, _read_whole, _hang_up, _cancel, _dawdle, _come_back)
    while time.monotonic() < until:
        act = draw.choice(acts)
        found.acts[act.__name__.strip("_")] += 1
        found.wrong += not await act(daemon, draw)


def _body(draw: random.Random, tokens: int, *, is_stream: bool = True) -> bytes:
    # Few prompts: the prefix cache of the engine fills at once, and then grows no more.
    prompt = f"Say {draw.randrange(64)} in words. " + "More. " * 100
    return chat(MODEL.name, prompt, tokens, is_stream=is_stream)


async def _read(daemon: FaultyDaemon, draw: random.Random) -> bool:
    answer = await ask(daemon.address, "POST", PATH, _body(draw, draw.randrange(1, 120)))
    return transcript(bytes(answer.body)).is_done


async def _read_whole(daemon: FaultyDaemon, draw: random.Random) -> bool:
    body = _body(draw, draw.randrange(1, 60), is_stream=False)
    return (await ask(daemon.address, "POST", PATH, body)).status == 200


async def _hang_up(daemon: FaultyDaemon, draw: random.Random) -> bool:
    return await _begin(daemon, draw, Answer(), is_detached=False)


async def _cancel(daemon: FaultyDaemon, draw: random.Random) -> bool:
    answer = Answer()
    await _begin(daemon, draw, answer, is_detached=True)
    path = f"/v1/streams/{answer.stream_id}"
    return (await ask(daemon.address, "DELETE", path)).status == 204


async def _dawdle(daemon: FaultyDaemon, draw: random.Random) -> bool:
    answer = await ask(
        daemon.address, "POST", PATH, _body(draw, 60), pace=lambda: draw.random() * 0.2
    )
    return transcript(bytes(answer.body)).is_done


async def _come_back(daemon: FaultyDaemon, draw: random.Random) -> bool:
    answer = Answer()
    await _begin(daemon, draw, answer, is_detached=True)
    whole = bytes(answer.body[: answer.body.rfind(b"\n\n") + 2])
    path = f"/v1/streams/{answer.stream_id}"
    rest = await ask(daemon.address, "GET", f"{path}?after={transcript(whole).last_cursor}")
    again = await ask(daemon.address, "GET", path)
    return whole + rest.body == again.body and transcript(bytes(again.body)).is_done


async def _begin(
    daemon: FaultyDaemon, draw: random.Random, answer: Answer, *, is_detached: bool
) -> bool:
    """Read a little and hang up without a word."""
    asking = asyncio.ensure_future(
        ask(
            daemon.address,
            "POST",
            PATH,
            _body(draw, 200),
            answer=answer,
            is_detached=is_detached,
        )
    )
    await answer.reaches(draw.randrange(1, 40))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return answer.status == 200


def _slope(found: Found) -> float:
    """MiB a minute, over the second half of the run."""
    half = found.samples[len(found.samples) // 2 :]
    times, sizes = np.array(half).T
    return float(np.polyfit(times / 60, sizes / 2**20, 1)[0])


def _memory(found: Found) -> Table:
    sizes = [size / 2**20 for _, size in found.samples]
    quarter = len(sizes) // 4
    rows = (
        ("after a quarter", sizes[quarter]),
        ("at the end", sizes[-1]),
        ("at most", max(sizes)),
        ("slope of the second half, MiB a minute", _slope(found)),
    )
    return Table("resident memory of gateway and replicas, MiB", ("when", "MiB"), rows)


def _checks(found: Found, *, is_quick: bool) -> list[Check]:
    slope = Bar("rss_slope", 0.5, "lower", "MiB/min")
    if is_quick:
        memory = not_measured(slope, f"two minutes say little: {_slope(found):.2f}")
    else:
        memory = judge(slope, exactly(_slope(found)))
    return [
        memory,
        judge(Bar("left_over", 0, "lower", "things"), exactly(sum(found.left.values()))),
        judge(Bar("wrong_answers", 0, "lower", "answers"), exactly(float(found.wrong))),
    ]
