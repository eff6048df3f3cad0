"""What several tokens a step are worth: copying, Jacobi steps and `auto` beside vLLM's own.

Run by `headstart bench decode`; the bars are issue 7's. All arms have the same weights, cores and
engine arguments, and no prefix cache: each prompt is put to every arm. Only decoding is compared,
so there is no HTTP.
"""

import math
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headstart.benchmarks import decode_tasks, report
from headstart.benchmarks.arms import rest_check
from headstart.benchmarks.arms import table as arms_table
from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.child import Child, command
from headstart.benchmarks.estimates import exactly, over_blocks
from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.replay_drafter import ReplayDrafter, replaying, write_answers
from headstart.benchmarks.report import Report, Table
from headstart.benchmarks.servers import bind, cores_of
from headstart.cluster import adapter, model_source
from headstart.cluster.engine_child import Asked, Batch, Done, Wanted
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.configs.speculation import SpeculationSettings
from headstart.stages.errors import SetupError
from headstart.stages.speculation_counts import SpeculationCounts

__all__ = ["run"]

SEED = 7
BLOCK_TOKENS = 16
REPLAYED = (2, 4, 8)
REPLAY_TOKENS = 8
REPLAY_TRIES = 5
VERIFIED = (1, 2, 4, 8, 16, 32)
NGRAM = {
    "method": "ngram",
    "num_speculative_tokens": 8,
    "prompt_lookup_min": 2,
    "prompt_lookup_max": 5,
}
"""vLLM's own copying; its shortest match is the same as ours."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    num_candidates: int
    """Prompts of a task that the plain engine answers first, to tell which answers loop."""
    blocks: Mapping[int, int]
    """By concurrency: a block is as many answers by every lane."""
    answer_tokens: int
    replay_tokens: int


FULL = Plan(36, {1: 16, 4: 10}, answer_tokens=160, replay_tokens=160)
QUICK = Plan(8, {1: 3, 4: 1}, answer_tokens=96, replay_tokens=64)


@dataclass(frozen=True, slots=True)
class Lane:
    """A way to decode: an arm, and what its requests ask for."""

    name: str
    arm: str
    arguments: dict[str, str] = field(default_factory=dict)


def _mode(mode: str) -> dict[str, str]:
    return {"headstart_speculation": mode}


LANES = (
    Lane("plain", "plain"),
    Lane("vllm ngram", "ngram"),
    Lane("copy", "headstart", _mode("copy")),
    Lane("auto", "headstart", _mode("auto")),
)


@dataclass(slots=True)
class Cell:
    """What one lane did at one task and concurrency; an entry a block."""

    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    decode_s: list[float] = field(default_factory=list)
    """From first tokens to last ones, summed over answers."""
    differing: int = 0
    answers: int = 0
    counts: list[SpeculationCounts] = field(default_factory=list)

    @property
    def speed(self) -> float:
        return sum(self.tokens) / sum(self.seconds)


Cells = dict[tuple[str, int, str], Cell]
"""By task, concurrency and lane."""


class Arms:
    """The engines, one awake at a time."""

    def __init__(self, children: Mapping[str, Child]) -> None:
        self.children = children

    def ask(
        self, name: str, asked: Sequence[Asked], max_tokens: int, *, ignore_eos: bool = False
    ) -> Done:
        """Have one engine answer a batch; the others are suspended."""
        child = self.children[name]
        with child.arm.awake():
            child.tell(msgspec.json.encode(Batch(list(asked), max_tokens, ignore_eos)))
            return child.hear(Done)


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, write the report, and return the exit status.

    Raises:
        SetupError: The settings name no model for vLLM, or an engine does not start.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    origin, began = here(), time.monotonic()
    plan = QUICK if options.is_quick else FULL
    model = _model(settings)
    path = str(model_source.resolve(model.source, settings.cache_dir))
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as name, ExitStack() as stack:
        arms = _start(model, path, Path(name), stack)
        prompts, looping = _select(arms, plan, options.data_dir)
        cells = _measure(arms, plan, prompts)
        costs, replays, token_s = _replay(arms, plan, prompts["free"], Path(name))
        jacobi = arms.ask(
            "forced",
            [Asked(text, _mode("jacobi")) for text in prompts["free"][:4]],
            plan.answer_tokens,
        ).counts
    children = [child.arm for child in arms.children.values()]
    assert jacobi is not None
    result = Report(
        name="decode",
        origin=origin,
        is_quick=options.is_quick,
        config={
            "plan": asdict(plan),
            "model": model.model_dump(mode="json"),
            "ngram": NGRAM,
            "engine_environment": adapter.engine_environment(model, cores_of(model)),
            "prefix_cache": "off in all arms",
        },
        tables=[
            _speeds(cells),
            Table("Answers left out because they loop", ("task", "left_out", "kept"), looping),
            _costs(costs),
            _outside(costs[1], token_s),
            _replays(replays),
            arms_table(children),
        ],
        checks=[
            *_speed_checks(cells, is_quick=options.is_quick),
            *_replay_checks(replays),
            _jacobi_check(jacobi),
            _draft_check(cells),
            not_measured(
                Bar("exact_answers_of_500", 500, "higher", "answers"),
                "tests/contract/test_speculation*.py compare answers in float32",
            ),
            rest_check(children),
        ],
        duration_s=time.monotonic() - began,
    )
    report.write(result, options.json_path)
    return result.exit_status


def _model(settings: Settings) -> ModelSettings:
    for model in settings.models:
        if model.engine == "vllm":
            cores = model.cores[:1] if model.cores is not None else None
            arguments = model.engine_args | {"enable_prefix_caching": False}
            return model.model_copy(
                update={
                    "replicas": 1,
                    "cores": cores,
                    "engine_args": arguments,
                    "speculation": None,
                }
            )
    raise SetupError("bench decode compares with vLLM: name a model with `engine: vllm`")


def _start(model: ModelSettings, path: str, folder: Path, stack: ExitStack) -> Arms:
    """Start every engine, one after the other, and suspend it."""

    def with_(speculation: SpeculationSettings | None, **arguments: Any) -> ModelSettings:
        merged = model.engine_args | arguments
        return model.model_copy(update={"speculation": speculation, "engine_args": merged})

    ours = SpeculationSettings(block_tokens=BLOCK_TOKENS)
    forced = SpeculationSettings(
        block_tokens=BLOCK_TOKENS, is_adaptive=False, max_tokens=max(VERIFIED) - 1
    )
    replay = f"{ReplayDrafter.__module__}.{ReplayDrafter.__qualname__}"
    wanted = {
        "plain": (with_(None), None),
        "ngram": (with_(None, speculative_config=NGRAM), None),
        "headstart": (with_(ours), None),
        "forced": (with_(forced), replay),
    }
    children: dict[str, Child] = {}
    for name, (each, drafter) in wanted.items():
        print(f"starting the engine {name}", flush=True)
        environment = adapter.engine_environment(each, cores_of(each))
        argv = (
            "env",
            *(f"{key}={value}" for key, value in environment.items()),
            *command("headstart.cluster.engine_child", "serve"),
        )
        child = children[name] = Child(name, argv, folder / f"{name}.log")
        stack.callback(child.arm.stop)
        child.tell(msgspec.json.encode(Wanted(each.model_dump_json(), path, drafter)))
        if reason := child.hear(str):
            raise SetupError(f"the engine {name} does not start: {reason}")
        bind(child.arm, cores_of(each))
        child.arm.suspend()
    arms = Arms(children)
    for name in children:
        arms.ask(name, [Asked("Say one.")], 4)  # the first batch pays for what is made lazily
    return arms


def _select(
    arms: Arms, plan: Plan, data_dir: Path | None
) -> tuple[dict[str, list[str]], tuple[tuple[str, int, int], ...]]:
    """Keep the prompts whose plain answers neither loop nor end at once."""
    kept: dict[str, list[str]] = {}
    rows = []
    for task in decode_tasks.TASKS:
        texts = decode_tasks.questions(task, plan.num_candidates, data_dir, SEED)
        done = arms.ask("plain", [Asked(text) for text in texts], plan.answer_tokens)
        looping = [decode_tasks.is_looping(answer) for answer in done.answers]
        kept[task] = [text for text, loops in zip(texts, looping, strict=True) if not loops]
        rows.append((task, sum(looping), len(kept[task])))
        if not kept[task]:
            raise SetupError(f"every answer of the task {task} loops: use another model")
        print(f"{task}: {sum(looping)} of {len(texts)} answers loop", flush=True)
    return kept, tuple(rows)


def _measure(arms: Arms, plan: Plan, prompts: Mapping[str, list[str]]) -> Cells:
    cells: Cells = {}
    for task, texts in prompts.items():
        for concurrency, num_blocks in plan.blocks.items():
            for block in range(num_blocks):
                at = block * concurrency
                asked = [texts[(at + index) % len(texts)] for index in range(concurrency)]
                _block(arms, cells, task, asked, plan.answer_tokens, is_reversed=block % 2 == 1)
            print(
                f"{task} x{concurrency}: "
                + ", ".join(
                    f"{lane.name} {cells[task, concurrency, lane.name].speed:.1f}" for lane in LANES
                ),
                flush=True,
            )
    return cells


def _block(
    arms: Arms, cells: Cells, task: str, texts: list[str], max_tokens: int, *, is_reversed: bool
) -> None:
    found: dict[str, Done] = {}
    for lane in reversed(LANES) if is_reversed else LANES:
        asked = [Asked(text, lane.arguments) for text in texts]
        found[lane.name] = arms.ask(lane.arm, asked, max_tokens)
    for name, done in found.items():
        cell = cells.setdefault((task, len(texts), name), Cell())
        cell.tokens.append(sum(map(len, done.answers)))
        cell.seconds.append(max(done.last_s))
        cell.decode_s.append(sum(done.decode_s))
        cell.answers += len(texts)
        pairs = zip(done.answers, found["plain"].answers, strict=True)
        cell.differing += sum(answer != plain for answer, plain in pairs)
        if done.counts is not None:
            cell.counts.append(done.counts)


def _replay(
    arms: Arms, plan: Plan, texts: list[str], folder: Path
) -> tuple[dict[int, float], dict[int, tuple[float, float, float]], float]:
    """Measure what verifying costs, and what replayed drafts gain.

    Returns: Seconds of a step by the tokens that it verifies; by the number of right tokens: tokens
        per step, speed over plain, cost of a step over plain; and the plain engine's seconds a
        token.
    """

    def ask(arm: str, prompt: str | list[int], arguments: dict[str, str]) -> Done:
        return arms.ask(arm, [Asked(prompt, arguments)], plan.replay_tokens, ignore_eos=True)

    known = ask("forced", texts[0], _mode("off"))
    [prompt] = known.prompts
    answers = folder / "answers"
    write_answers(answers, [(prompt, known.answers[0])])
    steps_s: dict[int, float] = {}
    for num in VERIFIED:
        arguments = replaying(answers, 0, num - 1) if num > 1 else _mode("off")
        counts = _counted(ask("forced", prompt, arguments))
        steps_s[num] = _step_s(counts, is_verified=num > 1)
    plain_s = _decode_s(ask("plain", prompt, {}))
    found = {}
    for right in REPLAYED:
        arguments = replaying(answers, right, REPLAY_TOKENS)
        write_answers(answers, [(prompt, known.answers[0])])
        done = ask("forced", prompt, arguments)
        for _ in range(REPLAY_TRIES):
            # Steps of this size round otherwise, and may have another answer: that is then known.
            write_answers(answers, [(prompt, done.answers[0])])
            before, done = done, ask("forced", prompt, arguments)
            if done.answers == before.answers:
                break
        counts = _counted(done)
        # The first step is the prompt's; the last few are plain, where the answer ends.
        num_steps = counts.steps - 1
        cost = (counts.verify_s + counts.plain_s) / num_steps / steps_s[1]
        found[right] = (counts.tokens - 1) / num_steps, plain_s / _decode_s(done), cost
    return steps_s, found, plain_s


def _counted(done: Done) -> SpeculationCounts:
    assert done.counts is not None
    return done.counts


def _step_s(counts: SpeculationCounts, *, is_verified: bool) -> float:
    """Mean seconds of the steps of a single request that verified a draft, or that did not."""
    verified = sum(source.drafts for source in counts.sources.values())
    if is_verified:
        return counts.verify_s / verified
    return counts.plain_s / (counts.steps - 1 - verified)  # the first came with the prompt


def _decode_s(done: Done) -> float:
    """Seconds a token after the first, of a single answer."""
    return done.decode_s[0] / (len(done.answers[0]) - 1)


def _speeds(cells: Cells) -> Table:
    rows = []
    for (task, concurrency, lane), cell in cells.items():
        plain = cells[task, concurrency, "plain"]
        rows_seen = sum(counts.rows for counts in cell.counts)
        drafted = sum(sum(s.drafted) for c in cell.counts for s in c.sources.values())
        accepted = sum(sum(s.accepted) for c in cell.counts for s in c.sources.values())
        rows.append(
            (
                *(task, concurrency, lane, cell.speed, cell.speed / plain.speed),
                sum(plain.decode_s) / sum(cell.decode_s),
                sum(c.tokens for c in cell.counts) / rows_seen if rows_seen else None,
                accepted / drafted if drafted else None,
                cell.differing,
                cell.answers,
            )
        )
    return Table(
        "Speed on answers that do not loop; differing answers are of the model's own number format",
        (
            *("task", "concurrency", "lane", "tokens_per_s", "over_plain", "decode_over_plain"),
            *("tokens_per_step", "acceptance", "differing", "answers"),
        ),
        tuple(rows),
    )


def _costs(steps_s: Mapping[int, float]) -> Table:
    return Table(
        "Cost of verifying, one request",
        ("tokens", "step_s", "over_one"),
        tuple((num, seconds, seconds / steps_s[1]) for num, seconds in steps_s.items()),
    )


def _outside(step_s: float, token_s: float) -> Table:
    return Table(
        "A token of the plain engine, one request: what passes outside model and sampler",
        ("token_s", "model_and_sampler_s", "outside_share"),
        ((token_s, step_s, 1 - step_s / token_s),),
    )


def _replays(found: Mapping[int, tuple[float, float, float]]) -> Table:
    return Table(
        f"Replayed drafts of {REPLAY_TOKENS} tokens, one request",
        ("right", "tokens_per_step", "over_plain", "step_cost", "of_what_is_possible"),
        tuple(
            (right, per_step, speed, cost, speed / (per_step / cost))
            for right, (per_step, speed, cost) in found.items()
        ),
    )


def _speed_checks(cells: Cells, *, is_quick: bool) -> list[Check]:
    checks = []
    for task, concurrency in dict.fromkeys((task, size) for task, size, _ in cells):
        auto = Bar(f"auto_over_plain_{task}_x{concurrency}", 0.97, "higher", "ratio")
        checks.append(_ratio(cells, task, concurrency, "auto", "plain", auto, is_quick=is_quick))
        rival = Bar(f"copy_over_ngram_{task}_x{concurrency}", 0.97, "higher", "ratio")
        checks.append(
            _ratio(cells, task, concurrency, "copy", "vllm ngram", rival, is_quick=is_quick)
        )
        if task != "free" and concurrency == 1:
            bar = Bar(f"copy_over_plain_{task}", 2.0, "higher", "ratio")
            checks.append(_ratio(cells, task, 1, "copy", "plain", bar, is_quick=is_quick))
    return checks


def _ratio(
    cells: Cells,
    task: str,
    concurrency: int,
    lane: str,
    baseline: str,
    bar: Bar,
    *,
    is_quick: bool,
) -> Check:
    ours, theirs = cells[task, concurrency, lane], cells[task, concurrency, baseline]
    logs = [
        math.log(tokens / seconds / (other / others_s))
        for tokens, seconds, other, others_s in zip(
            ours.tokens, ours.seconds, theirs.tokens, theirs.seconds, strict=True
        )
    ]
    estimate = over_blocks(logs, lambda drawn: math.exp(float(np.mean(drawn))))
    return judge(bar, estimate, is_quick=is_quick)


def _replay_checks(found: Mapping[int, tuple[float, float, float]]) -> list[Check]:
    return [
        judge(
            Bar(f"replay_{right}_right_of_possible", 0.9, "higher", "share"),
            exactly(speed / (per_step / cost)),
        )
        for right, (per_step, speed, cost) in found.items()
    ]


def _jacobi_check(counts: SpeculationCounts) -> Check:
    bar = Bar("jacobi_tokens_per_step_stock", 1.05, "higher", "tokens/step")
    return judge(bar, exactly(counts.tokens / counts.rows))


def _draft_check(cells: Cells) -> Check:
    counts = cells["free", 1, "auto"].counts
    spent = sum(each.draft_s for each in counts)
    steps = sum(each.plain_s + each.verify_s for each in counts)
    bar = Bar("draft_share_of_a_step_free_x1", 0.03, "lower", "share")
    return judge(bar, exactly(spent / steps))
