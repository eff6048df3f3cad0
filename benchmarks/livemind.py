"""`headstart bench livemind`: what it saves and costs to think while a question is typed.

Two parts. A replay in virtual time, which is a simulation: the real machine, gate and budgets, with
the lengths of a large model's reasoning and a cost curve in its place. And the paper's protocol on
the configured models, in virtual time and typed into the product: latency, accuracy and engine
seconds.
"""

import hashlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from headstart.benchmarks import livemind_model
from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.estimates import Estimate, paired_ratio
from headstart.benchmarks.livemind_curves import LARGE, SMALL, Answerer, Timed, plain, warm_only
from headstart.benchmarks.livemind_keys import BUDGET, EDITED, SESSIONS, shared_keys
from headstart.benchmarks.livemind_replay import Arm, Session
from headstart.benchmarks.livemind_tokens import SOURCE, Tokens
from headstart.benchmarks.livemind_typing import steadily
from headstart.benchmarks.machine import Origin, here
from headstart.benchmarks.mmlu_pro import FILE, ROWS, Question, questions
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Report, Table, write
from headstart.configs.live import ThinkingSettings
from headstart.configs.settings import Settings
from headstart.pipeline.live_events import MindConfig
from headstart.pipeline.live_factory import mind_limits
from headstart.stages.mind_events import AtCommit
from headstart.stages.mind_prompt import Format
from headstart.stages.segmenter import Granularity
from headstart.stages.warm_budget import TokenBudget

__all__ = ["run", "shipped"]

SEED = livemind_model.SEED
QUESTIONS = 1960
"""All there are: virtual time is cheap."""

LATENCY = Bar("replay_latency_over_plain", 0.45, "lower", "ratio")
FIRST = Bar("replay_cancel_first_token_over_warm", 1.1, "lower", "ratio")
BARS = (LATENCY, FIRST, BUDGET, EDITED, *livemind_model.BARS)

ARMS = (
    Arm("ua-spi, sentences, wait"),
    Arm("ua-spi, sentences, cancel", at_commit=AtCommit.CANCEL),
    Arm("ua-spi, clauses, wait", granularity=Granularity.CLAUSE),
    Arm("ua-spi, clauses, cancel", granularity=Granularity.CLAUSE, at_commit=AtCommit.CANCEL),
    Arm("ua-pil, sentences, wait", Format.UA_PIL),
    Arm("two-prompts, sentences, wait", Format.TWO_PROMPTS),
)
TOGETHER = (
    Arm("70B thinks, 8B answers, wait", answerer=SMALL),
    Arm("70B thinks, 8B answers, cancel", at_commit=AtCommit.CANCEL, answerer=SMALL),
)
"""The paper's collaborative arm, ua-spi by sentence."""
_SHIPPED = "ua-spi, sentences, {}, shipped limits"


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, write the result; return the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stops the daemon
    began, origin = time.monotonic(), here()
    asked = questions(options.data_dir, QUESTIONS, SEED)
    if not asked:
        why = f"needs {FILE}: {ROWS}"
        unmeasured = [not_measured(bar, why) for bar in BARS]
        report = _report(origin, options, {}, [], unmeasured, began)
        write(report, options.json_path)
        return report.exit_status
    checkpoint = _checkpoint(origin, settings, options, asked)
    tokens = Tokens(settings)
    arms = (*ARMS, *shipped(settings.live.thinking))
    tables, checks = _replay(asked, tokens, arms)
    many = questions(options.data_dir, SESSIONS, SEED + 1)
    table, more = shared_keys(many, tokens, arms)
    model = livemind_model.measure(settings, options, asked, checkpoint)
    config = {
        "questions": len(asked),
        "seed": SEED,
        "large": asdict(LARGE),
        "small": asdict(SMALL),
        "tokenizer": f"{SOURCE}, in place of the large model's",
        "replay": "a simulation: no model was asked; the shares left are LiveMind v1's, published",
        "model": model.config,
    }
    report = _report(
        origin,
        options,
        config,
        [*tables, table, *model.tables],
        [*checks, *more, *model.checks],
        began,
    )
    write(report, options.json_path)
    checkpoint.remove()
    return report.exit_status


def _checkpoint(
    origin: Origin, settings: Settings, options: BenchOptions, asked: Sequence[Question]
) -> Checkpoint:
    """Open the checkpoint of this run.

    Raises:
        SetupError: There is one of another.
    """
    run_of = {
        "commit": origin.commit,
        "is_quick": options.is_quick,
        "questions": settings.bench.livemind_questions,
        "answer_tokens": settings.bench.livemind_answer_tokens,
        "live": settings.live.model_dump(mode="json"),
        "models": [model.model_dump(mode="json") for model in settings.models[:2]],
        "asked": hashlib.sha256(repr(asked).encode()).hexdigest(),
    }
    return Checkpoint(options.json_path.with_suffix(".checkpoint.jsonl"), run_of)


def _report(
    origin: Origin,
    options: BenchOptions,
    config: dict[str, Any],
    tables: list[Table],
    checks: list[Check],
    began: float,
) -> Report:
    duration_s = time.monotonic() - began
    return Report("livemind", origin, options.is_quick, config, tables, checks, duration_s)


def shipped(settings: ThinkingSettings) -> Iterator[Arm]:
    """Yield the arms whose thoughts have the limits that the settings say."""
    for at_commit in AtCommit:
        limits = mind_limits(settings, MindConfig())
        yield Arm(_SHIPPED.format(at_commit), limits=limits, at_commit=at_commit)


def _replay(
    asked: Sequence[Question], tokens: Tokens, arms: Sequence[Arm]
) -> tuple[list[Table], list[Check]]:
    """Type every question once for each arm, each session by itself."""
    plains, warms, rows = _alone(asked, tokens, LARGE, "")
    found = _typed(asked, tokens, arms)
    rows += [_row(name, timed, plains, warms) for name, timed in found.items()]
    thinking = [index for index, one in enumerate(found[ARMS[0].name]) if one.num_thoughts]
    rows += [
        _row(
            f"{arm.name}: what was thought about", *_only(thinking, found[arm.name], plains, warms)
        )
        for arm in ARMS[:2]
    ]
    small_plains, small_warms, small_rows = _alone(asked, tokens, SMALL, "8B, ")
    rows += small_rows
    for name, timed in _typed(asked, tokens, TOGETHER).items():
        rows.append(_row(name, timed, small_plains, small_warms))
    table = Table(
        "Replay (a simulation), seconds from the last character on. The share of the reasoning "
        "left after commit is set, not measured; with * what nobody thought about is left too. "
        "Where the 8B answers, the ratios are to the 8B alone, whose answers are worse",
        (
            *("arm", "wait_s", "first_token_s", "whole_s", "whole_over_plain", "first_over_warm"),
            *("engine_s", "thoughts", "thought_tokens", "share_left", "without_thoughts"),
        ),
        tuple(rows),
    )
    wait, cancel = found[ARMS[0].name], found[ARMS[1].name]
    strict = _ratio(found[f"{ARMS[0].name} *"], plains, "whole_s")
    shipped = _ratio(found[_SHIPPED.format(AtCommit.WAIT)], plains, "whole_s")
    note = (
        f"share left after commit set to {LARGE.left:.3f}; in-flight wait included; "
        f"{_told(strict)} with what nobody thought about at full length; "
        f"{_told(shipped)} with the shipped limits"
    )
    checks = [
        judge(LATENCY, _ratio(wait, plains, "whole_s"), note=note),
        judge(FIRST, _ratio(cancel, warms, "first_token_s")),
    ]
    return [table], checks


Row = tuple[str | float | int | None, ...]


def _alone(
    asked: Sequence[Question], tokens: Tokens, answerer: Answerer, who: str
) -> tuple[list[Timed], list[Timed], list[Row]]:
    """Have every question answered by one model without thoughts, cold and warm."""
    plains = [plain(one, tokens, answerer) for one in asked]
    warms = [warm_only(one, tokens, answerer) for one in asked]
    rows = [
        _row(f"{who}plain", plains, plains, warms),
        _row(f"{who}warm only", warms, plains, warms),
    ]
    return plains, warms, rows


def _typed(
    asked: Sequence[Question], tokens: Tokens, arms: Sequence[Arm]
) -> dict[str, list[Timed]]:
    return {
        f"{arm.name}{' *' if is_strict else ''}": [
            _run_session(one, arm, tokens, is_strict=is_strict) for one in asked
        ]
        for arm in arms
        for is_strict in (False, True)
    }


def _only(indices: Sequence[int], *arms: Sequence[Timed]) -> tuple[list[Timed], ...]:
    return tuple([arm[index] for index in indices] for arm in arms)


def _row(name: str, timed: Sequence[Timed], plains: Sequence[Timed], warms: Sequence[Timed]) -> Row:
    return (
        name,
        _mean(timed, "wait_s"),
        _mean(timed, "first_token_s"),
        _mean(timed, "whole_s"),
        _mean(timed, "whole_s") / _mean(plains, "whole_s"),
        _mean(timed, "first_token_s") / _mean(warms, "first_token_s"),
        _mean(timed, "engine_s"),
        _mean(timed, "num_thoughts"),
        _mean(timed, "thought_tokens"),
        _mean(timed, "left_share"),
        sum(not one.num_thoughts for one in timed) / len(timed),
    )


def _mean(timed: Sequence[Timed], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in timed]))


def _ratio(ours: Sequence[Timed], theirs: Sequence[Timed], name: str) -> Estimate:
    pairs = [
        (getattr(one, name), getattr(other, name)) for one, other in zip(ours, theirs, strict=True)
    ]
    return paired_ratio(pairs, sum)


def _run_session(question: Question, arm: Arm, tokens: Tokens, *, is_strict: bool) -> Timed:
    edits = tuple(steadily(question.text))
    session = Session(question, edits, arm, tokens, TokenBudget(), is_strict=is_strict)
    now = 0.0
    while session.timed is None:
        now = max(now, session.due)
        session.step(now)
    return session.timed


def _told(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
