"""What a crash costs: replicas and the gateway are killed while they answer.

Run by `headstart bench reliability`; the bars are issue 3's. Answers are compared with what the
same request gives when nothing interrupts it.
"""

import asyncio
import random
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from headstart.benchmarks import report
from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.estimates import exactly
from headstart.benchmarks.fault_daemon import FaultyDaemon
from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.prompts import prompts
from headstart.benchmarks.reliability_rounds import (
    Found,
    gateway_round,
    reference,
    replica_round,
)
from headstart.benchmarks.report import Report, Table
from headstart.configs.model_settings import FakeEngineSettings, ModelSettings
from headstart.configs.settings import Settings

__all__ = ["run"]

SEED = 30


@dataclass(frozen=True, slots=True)
class Rounds:
    """How much is done to one engine."""

    replica_kills: int
    gateway_kills: int
    streams: int
    """At once, each round."""
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done."""

    fake: Rounds
    vllm: Rounds


FULL = Plan(Rounds(24, 3, 12, 100), Rounds(6, 2, 6, 48))
QUICK = Plan(Rounds(4, 1, 12, 100), Rounds(1, 1, 4, 48))

FAKE = ModelSettings(
    name="fake",
    engine="fake",
    replicas=2,
    fake=FakeEngineSettings(time_to_first_token_s=0.05, tokens_per_s=40),
)


def run(settings: Settings, options: BenchOptions) -> int:
    """Kill, compare, write the report, and return the exit status.

    Raises:
        SetupError: A daemon does not start, or does not recover.
    """
    origin = here()
    began = time.monotonic()
    plan = QUICK if options.is_quick else FULL
    parts = {"fake, two replicas": (FAKE, plan.fake)}
    for model in settings.models:
        if model.engine == "vllm":
            cores = model.cores[:1] if model.cores is not None else None
            own = model.model_copy(update={"replicas": 1, "cores": cores, "dtype": "float32"})
            parts["vllm, float32, one replica"] = (own, plan.vllm)
            break
    found: dict[str, Found] = {}
    num_lies = 0
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as name:
        for number, (title, (model, rounds)) in enumerate(parts.items()):
            print(f"killing: {title}", flush=True)
            with ExitStack() as stack:
                daemon = FaultyDaemon(settings, model, Path(name) / str(number))
                stack.callback(daemon.arm.stop)
                found[title] = asyncio.run(_measure(daemon, rounds))
                num_lies += daemon.num_lies
    result = Report(
        name="reliability",
        origin=origin,
        is_quick=options.is_quick,
        config={
            "plan": asdict(plan),
            "seed": SEED,
            "models": [model.model_dump(mode="json") for model, _ in parts.values()],
            "comparison": "text, finish reason and usage against the uninterrupted answer; the "
            "whole event stream against a second reading of it",
        },
        tables=[_table(found), _times(found)],
        checks=_checks(list(found.values()), num_lies, is_quick=options.is_quick),
        duration_s=time.monotonic() - began,
    )
    report.write(result, options.json_path)
    return result.exit_status


async def _measure(daemon: FaultyDaemon, rounds: Rounds) -> Found:
    draw = random.Random(SEED)  # noqa: S311 - repeatable, not secret
    found = Found()
    asked = prompts(None, SEED)[: rounds.streams]
    expected = await reference(daemon, asked, rounds.num_tokens)
    assert all(one.is_done and one.error is None for one in expected)
    kinds = [replica_round] * rounds.replica_kills + [gateway_round] * rounds.gateway_kills
    draw.shuffle(kinds)
    for number, kind in enumerate(kinds):
        await kind(daemon, asked, expected, rounds.num_tokens, draw, found)
        print(f"  {number + 1}/{len(kinds)} {kind.__name__}: {found.notes[-1:]}", flush=True)
        await daemon.healed(time.monotonic())
    return found


def _table(found: dict[str, Found]) -> Table:
    columns = (
        "kills",
        "gateway_kills",
        "streams",
        "detached",
        "detached_completed",
        "moved",
        "plain_interrupted",
        "plain_retryable",
        "lost_or_changed_bytes",
    )
    rows = tuple((title, *(getattr(one, name) for name in columns)) for title, one in found.items())
    return Table("streams", ("engine", *columns), rows)


def _times(found: dict[str, Found]) -> Table:
    measured = [
        (title, name, sorted(getattr(one, name)))
        for title, one in found.items()
        for name in ("heal_s", "first_answer_s", "restart_s")
    ]
    rows = [
        (title, name, len(times), times[len(times) // 2], times[-1])
        for title, name, times in measured
        if times
    ]
    return Table(
        "seconds from SIGKILL to: all replicas linked (heal), an answer where there was one "
        "replica (first_answer), the gateway's port answering (restart)",
        ("engine", "what", "n", "median", "worst"),
        tuple(rows),
    )


def _checks(parts: list[Found], num_lies: int, *, is_quick: bool) -> list[Check]:
    def total(name: str) -> int:
        return sum(getattr(part, name) for part in parts)

    interrupted, detached = total("plain_interrupted"), total("detached")
    kills, streams = Bar("replica_kills", 30, "higher", "kills"), Bar("streams", 300, "higher", "")
    counted = [
        (Bar("lost_or_changed_bytes", 0, "lower", "bytes"), total("lost_or_changed_bytes")),
        (Bar("detached_completed", 1, "higher", "share"), total("detached_completed") / detached),
        (
            Bar("plain_ended_retryable", 1, "higher", "share"),
            total("plain_retryable") / max(1, interrupted),
        ),
        # Without it, no detached answer may have been on a replica that was killed.
        (Bar("answers_moved_by_a_kill", 1, "higher", "answers"), total("moved") / total("kills")),
        (
            Bar("gateway_restart_s", 3, "lower", "s"),
            max(second for part in parts for second in part.restart_s),
        ),
        (Bar("orphaned_engines", 0, "lower", "processes"), total("orphaned_engines")),
        (Bar("readyz_said_yes_in_vain", 0, "lower", "times"), num_lies),
    ]
    checks = [judge(bar, exactly(float(value))) for bar, value in counted]
    for bar, value in ((kills, total("kills")), (streams, total("streams"))):
        if is_quick:
            checks.append(not_measured(bar, f"a quick run has {value}"))
        else:
            checks.append(judge(bar, exactly(float(value))))
    return checks
