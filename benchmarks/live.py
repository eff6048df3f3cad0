"""What it saves to compute a prompt while it is typed, and what that costs.

Run by `headstart bench live`; the bars are issue 6's lossless half. One daemon at a time: as it is,
for typing in real time and for the typists beside ordinary requests; with its debounces compressed
like the gaps between keys, for the rest of the typing; and in float32, for exactness. The plain
requests go to the same daemon, whose prefix cache is on.

What is measured is kept beside the result until the run is over: a killed run goes on.
"""

import hashlib
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from headstart.benchmarks import live_scores as scores
from headstart.benchmarks import report
from headstart.benchmarks.arms import Arm
from headstart.benchmarks.arms import table as arms_table
from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.checks import not_measured
from headstart.benchmarks.live_exactness import Compared, compare
from headstart.benchmarks.live_interference import CrowdPlan, Rounds, interference
from headstart.benchmarks.live_prompts import (
    BIG_TOKENS,
    CLASSES,
    JOINED,
    LONG,
    MIDDLE,
    REAL_TIME_LONG,
    SHORT,
    LengthClass,
    joined,
    split,
)
from headstart.benchmarks.live_replay import Lengths, Measured, Part, Replay, Target
from headstart.benchmarks.machine import Origin, here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.prompts import FILE, ROWS, is_public, prompts
from headstart.benchmarks.report import Report
from headstart.benchmarks.servers import running, single
from headstart.benchmarks.typists import PASTED, TYPED, TYPIST
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings

__all__ = ["run"]

SEED = 6
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    real_time: Part
    real_time_classes: tuple[LengthClass, ...]
    compressed: Part
    late_edits: int
    lengths: Lengths
    exact_tokens: int
    """Of the answers that are compared: a promise about 64 and more (exactness)."""
    crowd: CrowdPlan
    exact: Mapping[str, int]
    """Prompts of each class whose answers are compared."""


def _arms(num: int) -> dict[str, int]:
    return dict.fromkeys((*TYPED, PASTED), num)


FULL = Plan(
    Part("real time", 1.0, at_once=9, alone_s=2.0, arms=_arms(3), num_whole=1),
    (SHORT, MIDDLE, REAL_TIME_LONG),
    Part("compressed", 20.0, at_once=10, alone_s=1.0, arms=_arms(20), num_whole=6),
    late_edits=20,
    lengths=Lengths(8, 96),
    exact_tokens=64,
    crowd=CrowdPlan(20, 20, answer_tokens=8, probe_requests=32, begin_s=10.0, quiet_s=2.5),
    exact={SHORT.name: 220, MIDDLE.name: 70, LONG.name: 10},
)
QUICK = Plan(
    Part(
        "real time",
        1.0,
        at_once=3,
        alone_s=2.0,
        arms={"1200": 1, TYPIST: 1, PASTED: 1},
        num_whole=0,
    ),
    (SHORT,),
    Part("compressed", 20.0, at_once=8, alone_s=1.0, arms=_arms(1), num_whole=1),
    late_edits=1,
    lengths=Lengths(8, 32),
    exact_tokens=64,
    crowd=CrowdPlan(2, 12, answer_tokens=8, probe_requests=16, begin_s=5.0, quiet_s=2.5),
    exact={SHORT.name: 10, MIDDLE.name: 2},
)


@dataclass(frozen=True, slots=True)
class Texts:
    """What is typed and asked; no question is in two of these."""

    real_time: dict[str, list[str]]
    compressed: dict[str, list[str]]
    exact: list[str]
    ordinary: list[str]
    typed_beside: list[str]


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, write the report, and return the exit status.

    Raises:
        SetupError: The settings name no model for vLLM, it does not start, or what was measured
            before belongs to another run.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    origin, began = here(), time.monotonic()
    plan = QUICK if options.is_quick else FULL
    model = single(settings, "live")
    if not is_public(options.data_dir):
        return _without_data(origin, options)
    texts = texts_of(prompts(options.data_dir, SEED), plan, is_quick=options.is_quick)
    checkpoint = Checkpoint(
        options.json_path.with_suffix(".checkpoint.jsonl"), _run_of(origin, plan, model, texts)
    )
    bench = Bench(settings, model, plan, checkpoint, texts)
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as name:
        measured, rounds, compared = bench.measure(Path(name))
    result = Report(
        name="live",
        origin=origin,
        is_quick=options.is_quick,
        config=_config(plan, model, checkpoint.num_resumed),
        tables=[
            scores.replay_table(measured),
            scores.whole_table(measured),
            scores.stages_table(measured),
            scores.interference_table(rounds),
            scores.exact_table(compared),
            arms_table(bench.daemons),
        ],
        checks=[
            *scores.replay_checks(
                [one for one in measured if one.part == plan.compressed.name],
                is_quick=options.is_quick,
            ),
            scores.interference_check(rounds, is_quick=options.is_quick),
            *scores.exact_checks(compared, is_quick=options.is_quick),
        ],
        duration_s=time.monotonic() - began,
    )
    report.write(result, options.json_path)
    checkpoint.remove()
    return result.exit_status


class Bench:
    """The three daemons, one after the other.

    Args:
        settings: Of the daemon, but for its model and its debounces.
    """

    def __init__(
        self,
        settings: Settings,
        model: ModelSettings,
        plan: Plan,
        checkpoint: Checkpoint,
        texts: Texts,
    ) -> None:
        self.daemons: list[Arm] = []
        self._settings = settings
        self._model = model
        self._plan = plan
        self._checkpoint = checkpoint
        self._texts = texts

    def measure(self, folder: Path) -> tuple[list[Measured], Rounds, list[Compared]]:
        """Measure everything."""
        plan, texts, checkpoint = self._plan, self._texts, self._checkpoint
        with self._daemon(folder / "real", self._model, plan.real_time.scale) as target:
            replay = Replay(target, checkpoint, plan.lengths, SEED)
            measured = _run(replay.measure(plan.real_time, texts.real_time))
            crowd = interference(
                target, checkpoint, plan.crowd, texts.ordinary, texts.typed_beside, SEED
            )
            rounds = _run(crowd)
        with self._daemon(folder / "compressed", self._model, plan.compressed.scale) as target:
            replay = Replay(target, checkpoint, plan.lengths, SEED)
            measured += _run(replay.measure(plan.compressed, texts.compressed, plan.late_edits))
        with self._daemon(folder / "exact", _in_float32(self._model), plan.compressed.scale) as it:
            compared = _run(compare(it, checkpoint, texts.exact, plan.exact_tokens, SEED))
        return measured, rounds, compared

    @contextmanager
    def _daemon(self, folder: Path, model: ModelSettings, scale: float) -> Iterator[Target]:
        live = self._settings.live
        scaled = {
            "debounce_s": live.debounce_s / scale,
            "edit_debounce_s": live.edit_debounce_s / scale,
        }
        settings = self._settings.model_copy(update={"live": live.model_copy(update=scaled)})
        print(f"debounce {scaled['debounce_s']:.3g} s", flush=True)
        with running(settings, (model,), folder, self.daemons) as url:
            yield Target(url, model.name)


def texts_of(questions: list[str], plan: Plan, *, is_quick: bool) -> Texts:
    """Deal the questions out; a quick run's are none of a full run's."""
    left = iter(split(questions, is_quick=is_quick))
    parts = (
        (plan.real_time_classes, max(plan.real_time.arms.values())),
        (CLASSES, max(*plan.compressed.arms.values(), plan.late_edits)),
    )
    real_time, compressed = (
        {each.name: joined(left, each, num, SEED) for each in classes} for classes, num in parts
    )
    exact = [
        text for each in CLASSES for text in joined(left, each, plan.exact.get(each.name, 0), SEED)
    ]
    beside = joined(left, LONG, 2, SEED)
    num = plan.crowd.num_blocks * plan.crowd.block_requests
    ordinary = [text for text, _ in zip(left, range(num), strict=False)]
    return Texts(real_time, compressed, exact, ordinary, beside)


def _run(measuring: Coroutine[Any, Any, Found]) -> Found:
    return uvloop.run(measuring)


def _in_float32(model: ModelSettings) -> ModelSettings:
    return model.model_copy(update={"dtype": "float32"})


def _without_data(origin: Origin, options: BenchOptions) -> int:
    why = f"needs --data with {FILE}: {ROWS}"
    result = Report(
        name="live",
        origin=origin,
        is_quick=options.is_quick,
        config={},
        tables=[],
        checks=[not_measured(bar, why) for bar in scores.bars()],
        duration_s=0.0,
    )
    report.write(result, options.json_path)
    return result.exit_status


def _run_of(origin: Origin, plan: Plan, model: ModelSettings, texts: Texts) -> dict[str, Any]:
    """Say what the measurements depend on."""
    return {
        "commit": origin.commit,
        "plan": asdict(plan),
        "model": model.model_dump(mode="json"),
        "texts": hashlib.sha256(repr(texts).encode()).hexdigest(),
    }


def _config(plan: Plan, model: ModelSettings, num_resumed: int) -> dict[str, Any]:
    return {
        "plan": asdict(plan),
        "seed": SEED,
        "model": model.model_dump(mode="json"),
        "prompts": JOINED,
        "split": "shuffled by the seed; a quick run takes every other question, a full run the "
        "others",
        "whole": f"the time to the last token is told of answers of {plan.lengths.whole} tokens, "
        "by the first prompts of each cell; the others have one token of interest and "
        f"{plan.lengths.first} in all",
        "clock": "from the last key, which the commit follows at once; the plain request's from "
        "sending it",
        "typed_at_once": "whoever finishes types the last keys and is answered alone, and so is "
        "the plain request beside it",
        "compressed": "the gaps between keys and the server's debounces are divided by the same "
        "number; its prefill is not faster, so it has less time than in real time",
        "judged": "the compressed part, by class; real time is in the table, and so are the "
        f"prompts of {BIG_TOKENS} tokens and more by themselves",
        "pasted": "a question at a time, 2 to 8 s apart; sent off with the last one",
        "late_edit": "a wrong word behind nine tenths of the text is put right with the last keys",
        "waste": "tokens computed ahead that the committed prompt did not find in the cache, for "
        "each that it has; aborted slices count in full, but their engine seconds are not known",
        "prefix_cache": "on; each side of each arm has a cache salt of its own",
        "typists": "beside the ordinary requests they are somewhere in long prompts, and send none "
        "off: an answer would be one more ordinary request",
        "daemons": "one at a time",
        "num_resumed": num_resumed,
    }
