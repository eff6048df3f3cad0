"""The whole product in one run, from the last key to the last token on the screen.

Run by `headstart bench journey`; the bars are issue 7's. Prompts of more than twenty sentences are
typed, sent off and answered across a link that loses a tenth of all packets each way, by our daemon
with each of its three features on and off, and by `vllm serve` with the `openai` package's client.
One at a time, in an order drawn for each prompt; both servers are up, and who is not measured is
suspended.

What is measured is kept beside the result until the run is over: a killed run goes on.
"""

import hashlib
import random
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.benchmarks import journey_scores as scores
from headstart.benchmarks.arms import rest_check
from headstart.benchmarks.arms import table as arms_table
from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.journey_client import ENTER_S, Features
from headstart.benchmarks.journey_measured import Measured, Prompt, arm_name
from headstart.benchmarks.journey_rig import CELL, JourneyRig, plain
from headstart.benchmarks.live_prompts import JOINED, LONG, joined, split
from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.prompts import FILE, ROWS, is_public, prompts
from headstart.benchmarks.report import Part, run_part
from headstart.benchmarks.servers import cores_of, single
from headstart.benchmarks.socket_cells import SocketSample
from headstart.benchmarks.typists import TYPIST, compressed, script, seconds, tail
from headstart.cluster import launch_adapter, model_source
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.configs.speculation import SpeculationSettings

__all__ = ["run"]

SEED = 9
WARM_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    num_prompts: int
    scale: float
    """By this the gaps between keys are divided."""
    real_s: float
    """Of typing before the last key, whose gaps are not."""
    answer_tokens: int


FULL = Plan(12, 80.0, 4.0, 96)
QUICK = Plan(2, 120.0, 3.0, 48)


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, write the report, and return the exit status.

    Raises:
        SetupError: The settings name no model for vLLM, a server does not start or answer, or what
            was measured before belongs to another run.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    path = options.json_path.with_suffix(".checkpoint.jsonl")
    status = run_part("journey", options, lambda: _measure(settings, options, path))
    path.unlink(missing_ok=True)
    return status


def _measure(settings: Settings, options: BenchOptions, measured: Path) -> Part:
    model = single(settings, "journey")
    model = model.model_copy(update={"speculation": model.speculation or SpeculationSettings()})
    if not is_public(options.data_dir):
        return Part({}, [], scores.unmeasured(f"needs --data with {FILE}: {ROWS}"))
    plan = QUICK if options.is_quick else FULL
    typed = prompts_of(prompts(options.data_dir, SEED), plan, is_quick=options.is_quick)
    checkpoint = Checkpoint(measured, _run_of(plan, model, typed))
    path = str(model_source.resolve(model.source, settings.cache_dir))
    with (
        tempfile.TemporaryDirectory(prefix="headstart-bench-") as name,
        JourneyRig(settings, model, path, Path(name)) as rig,
    ):
        if rig.standing.kind != "tun":
            return Part({}, [], scores.unmeasured(f"TCP has no lossy path: {rig.standing.why}"))
        found = _travel(rig, plan, typed, checkpoint)
        arms = [server.arm for server in rig.servers]
        config = _config(plan, model, rig, checkpoint.num_resumed)
    by_arm = {arm: [each[arm] for each in found] for arm in map(arm_name, _arms())}
    return Part(
        config,
        [*scores.tables(by_arm), arms_table(arms)],
        [*scores.checks(by_arm, is_quick=options.is_quick), rest_check(arms)],
    )


def prompts_of(questions: list[str], plan: Plan, *, is_quick: bool) -> list[Prompt]:
    """Make what is typed, by somebody who errs and pauses."""
    texts = joined(iter(split(questions, is_quick=is_quick)), LONG, plan.num_prompts, SEED)
    sample = SocketSample.quick() if is_quick else SocketSample.full()
    found: list[Prompt] = []
    for number, text in enumerate(texts):
        strokes = script(TYPIST, text, SEED + number)
        slow = tail(strokes, plan.real_s)
        own = [*compressed(strokes[:slow], plan.scale), *strokes[slow:]]
        # A connection has the next seed.
        found.append(Prompt(number, text, own, seconds(strokes), sample.seed_base + 100 * number))
    return found


def _arms() -> list[Features | None]:
    return [None, *scores.ARMS]


def _travel(
    rig: JourneyRig, plan: Plan, typed: list[Prompt], checkpoint: Checkpoint
) -> list[dict[str, Measured]]:
    """Measure every arm with every prompt."""
    short = Prompt(-1, "Say two.", script(TYPIST, "Say two.", SEED), 0.0, 1)
    for features in (None, scores.ALL):  # what is made or loaded lazily is not measured
        rig.measure(features, short, WARM_TOKENS)
    found: list[dict[str, Measured]] = []
    for prompt in typed:
        arms = _arms()
        random.Random(f"{SEED} {prompt.number}").shuffle(arms)  # noqa: S311 - an order
        own: dict[str, Measured] = {}
        for features in arms:
            name = arm_name(features)
            key = f"{prompt.number}/{name}"
            one: Measured | None = checkpoint.get(key, Measured)
            if one is None:
                one = rig.measure(features, prompt, plan.answer_tokens)
                checkpoint.put(key, one)
            own[name] = one
            print(
                f"prompt {prompt.number + 1} of {len(typed)}, {name}: {one.first_s:.3f} s to the "
                f"first token, {one.last_s:.3f} s to the last",
                flush=True,
            )
        found.append(own)
    return found


def _run_of(plan: Plan, model: ModelSettings, typed: list[Prompt]) -> dict[str, Any]:
    """Say what the measurements depend on."""
    return {
        "commit": here().commit,
        "plan": asdict(plan),
        "model": model.model_dump(mode="json"),
        "prompts": hashlib.sha256(repr(typed).encode()).hexdigest(),
    }


def _config(plan: Plan, model: ModelSettings, rig: JourneyRig, num_resumed: int) -> dict[str, Any]:
    return {
        "plan": asdict(plan),
        "seed": SEED,
        "model": model.model_dump(mode="json"),
        "engine_environment": launch_adapter.engine_environment(model, cores_of(model)),
        "engine_processes": {each.arm.name: each.engine for each in rig.servers},
        "rival_arguments": launch_adapter.engine_argv(plain(model), model.source),
        "rival": "the same engine arguments and no speculation; prefix cache on; the openai "
        "package's client as it comes, on an event stream over the kernel's TCP (cubic)",
        "link": f"two TUN devices in network namespaces; {CELL}, each way, every packet of every "
        "connection from its first on",
        "kernel_tcp": rig.standing.controls,
        "prompts": f"{JOINED}; {LONG.fewest} to {LONG.most} sentences",
        "split": "shuffled by the seed; a quick run takes every other question, a full run the "
        "others",
        "typed": "by somebody who errs and pauses; the gaps between keys are divided by the scale "
        "up to the last seconds, which are real; the debounces are as shipped, so there is less "
        f"time for computing ahead than in truth. Last comes a key that sends it off, {ENTER_S} s "
        "after the last letter",
        "clock": "from that key, or from asking where nothing is typed ahead, until the client "
        "yields text to the program",
        "connections": "each arm has a new client, which has had a short answer before: its TCP "
        "connection is open, and ours has had a second or the typing to open a session",
        "prefix_cache": "on; each arm and prompt has a cache salt of its own",
        "ratios": "geometric means over prompts",
        "waste": "tokens computed ahead that the prompt did not find in the cache; stopped slices "
        "count in full, but their engine seconds are not known",
        "order": "drawn for each prompt; one arm at a time, the other server is suspended",
        "answers": "of a fixed length, greedy, in the model's own number format: arms may differ "
        "where two tokens are nearly as likely",
        "num_resumed": num_resumed,
    }
