"""What LiveMind does on real models: latency, accuracy and engine seconds of every arm.

The first configured model answers. If a second is configured, it thinks in the collaborative arm;
else the first does, served a second time under another name. Then the product itself, with the
first alone: questions typed into it, and what that costs everybody else, by ordinary requests
beside sessions that are thought about. The collaborative arm comes last, in a daemon of its own: no
other arm has its thinker's engine beside it.
"""

import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from headstart.benchmarks import live_scores
from headstart.benchmarks.arms import Arm as ServedArm
from headstart.benchmarks.arms import table as arms_table
from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.checks import Bar, Check, not_measured
from headstart.benchmarks.estimates import MIN_BLOCKS
from headstart.benchmarks.live_interference import CrowdPlan, Rounds, interference
from headstart.benchmarks.live_replay import Target
from headstart.benchmarks.livemind_protocol import Asking, ModelArm, Outcome, Typed
from headstart.benchmarks.livemind_scores import (
    COLLABORATIVE,
    INTERVALS,
    PLAIN,
    WANTED,
    intervals_check,
    outcomes_table,
)
from headstart.benchmarks.livemind_sessions import ARMS as SESSION_ARMS
from headstart.benchmarks.livemind_sessions import CHARS, TYPED_AS, typed_sessions
from headstart.benchmarks.mmlu_pro import Question
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Table
from headstart.benchmarks.servers import running
from headstart.configs.model_settings import ModelSettings, core_list, parse_cores
from headstart.configs.settings import Settings
from headstart.pipeline.live_events import MindConfig
from headstart.pipeline.live_factory import mind_limits
from headstart.stages.mind_events import AtCommit
from headstart.stages.mind_prompt import Format

__all__ = ["BARS", "SEED", "measure"]

SEED = 42
QUICK_S, QUICK_SESSIONS_S = 60.0, 45.0
"""Longest that a quick run begins questions, of each kind."""
FEW_QUESTIONS = 64
"""As many or fewer have fewer ordinary requests asked beside them."""
_NAME_CHARS = 55
"""Of a model's name, so that there is room for more in 63."""
QUICK_QUESTIONS, QUICK_ANSWER_TOKENS = 40, 96
BESIDE = Bar("ordinary_first_token_p95_beside_8_thinkers", 1.1, "lower", "ratio")
BARS = (BESIDE, INTERVALS)
CROWD = CrowdPlan(16, 24, answer_tokens=8, probe_requests=32, begin_s=15.0, quiet_s=3.0)
QUICK_CROWD = CrowdPlan(2, 12, answer_tokens=8, probe_requests=16, begin_s=10.0, quiet_s=3.0)
TYPED, TYPED_CHARS = 8, 400
"""Questions that one who types goes through, without sending any off, and their length at most."""


ALONE = (
    ModelArm(PLAIN, is_warm=False),
    ModelArm("warm only"),
    *(ModelArm(form.value, form) for form in Format),
    ModelArm("collaborative, replayed thinker", Format.UA_SPI, thinker="replayed"),
)
"""With one engine."""
TOGETHER = (ModelArm(COLLABORATIVE, Format.UA_SPI, thinker="other"),)
"""With the thinker's engine beside it."""
SESSIONS = tuple(arm.name for arm in SESSION_ARMS)


@dataclass
class Found:
    """What the models' part of the benchmark found."""

    config: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)


def measure(
    settings: Settings, options: BenchOptions, asked: Sequence[Question], checkpoint: Checkpoint
) -> Found:
    """Ask the configured models; without a model that is real, say so."""
    models = settings.models[:2]
    if not models or models[0].engine == "fake":
        why = "no model is configured that is real"
        return Found({"not_measured": why}, checks=[not_measured(bar, why) for bar in BARS])
    is_quick, wanted = options.is_quick, settings.bench
    limit = QUICK_ANSWER_TOKENS if is_quick else wanted.livemind_answer_tokens
    num = min(wanted.livemind_questions, QUICK_QUESTIONS if is_quick else len(asked))
    limits = mind_limits(settings.live.thinking, MindConfig(at_commit=AtCommit.WAIT))
    own, thinker = _two(models)
    who = _who_thinks(own, thinker, len(models))
    names = (own,) if thinker is own else (own, thinker)
    daemons: list[ServedArm] = []
    with tempfile.TemporaryDirectory() as folder:
        # No other engine is there: what is measured now is what is served.
        with running(settings, (own,), Path(folder) / "one model", daemons) as url:
            asking = Asking(url, own.name, own.name, limit, limits)
            ends_at = time.monotonic() + (QUICK_S if is_quick else math.inf)
            alone = _ask_all(asking, asked[:num], checkpoint, ALONE, ends_at)
            target = Target(url, own.name)
            ends_at = time.monotonic() + (QUICK_SESSIONS_S if is_quick else math.inf)
            sessions = typed_sessions(target, checkpoint, asked, _sessions(num), limit, ends_at)
            typed = uvloop.run(sessions)
            plan = QUICK_CROWD if is_quick else _crowd_of(num)
            rounds = uvloop.run(_crowd(target, checkpoint, asked, plan))
        with running(settings, names, Path(folder) / "two names", daemons) as url:
            asking = Asking(url, own.name, thinker.name, limit, limits)
            together = _ask_all(asking, asked[: len(alone)], checkpoint, TOGETHER, math.inf)
    found = [one | other for one, other in zip(alone, together, strict=True)]
    config = {
        "models": [model.model_dump(mode="json") for model in names],
        "daemons": "one at a time: one model by itself, then the collaborative arm with two",
        "questions": len(found),
        "typed_questions": len(typed),
        "typed_as": f"{TYPED_AS} characters a minute, in real time; questions of {CHARS.start} to "
        f"{CHARS.stop - 1} characters",
        "answer_tokens": limit,
        "limits": asdict(limits),
        "thinker": who,
        "chance": float(np.mean([1 / one.num_options for one in asked[: len(found)]])),
        "questions_in_order": [one.number for one in asked[: len(found)]],
    }
    checks = [
        live_scores.interference_check(rounds, is_quick=is_quick, bar=BESIDE),
        intervals_check(((WANTED, found), (SESSIONS, typed)), is_quick=is_quick),
    ]
    tables = [
        outcomes_table(
            f"Real models, typed in virtual time (collaborative: {who}), seconds from the last "
            "character on",
            found,
            limit,
        ),
        outcomes_table(
            "Sessions typed into the product, seconds from the last key on", typed, limit
        ),
        live_scores.interference_table(rounds, "who type in mode livemind"),
        arms_table(daemons),
    ]
    return Found(config, tables, checks)


def _two(models: Sequence[ModelSettings]) -> tuple[ModelSettings, ModelSettings]:
    """Return who answers, and who thinks in the collaborative arm.

    One model is served under two names, on cores of their own. On GPUs, where nobody says which
    has room for it twice, it thinks itself.
    """
    own = models[0]
    if len(models) > 1:
        return own, models[1]
    if own.gpus_per_replica:
        return own, own
    cores = None
    if own.cores is not None:
        taken = parse_cores(own.cores[0])
        left = sorted(os.sched_getaffinity(0).difference(*map(parse_cores, own.cores)))
        cores = (core_list(frozenset(left[: len(taken)])),) if left else None
    name = f"{own.name[:_NAME_CHARS]}-thinker"
    return own, own.model_copy(update={"name": name, "replicas": 1, "cores": cores})


def _who_thinks(own: ModelSettings, thinker: ModelSettings, num_models: int) -> str:
    if num_models > 1:
        return "another model"
    return "same weights under two names" if thinker is not own else "same engine, another cache"


def _sessions(num_questions: int) -> int:
    """How many questions are typed into the product, where each takes as long as typing does."""
    return max(MIN_BLOCKS, num_questions // 4)


def _crowd_of(num_questions: int) -> CrowdPlan:
    """Return how many ordinary requests are asked beside sessions: fewer where little is asked."""
    num_blocks = CROWD.num_blocks if num_questions > FEW_QUESTIONS else MIN_BLOCKS
    return replace(CROWD, num_blocks=num_blocks)


async def _crowd(
    target: Target, checkpoint: Checkpoint, asked: Sequence[Question], plan: CrowdPlan
) -> Rounds:
    """Ask ordinary questions with and without sessions that are thought about beside them."""
    texts = [one.text for one in asked]
    short = [text for text in reversed(texts) if len(text) <= TYPED_CHARS]
    typed = ["\n\n".join(short[at : at + TYPED]) for at in (0, TYPED)]
    session = {"mode": "livemind"}
    return await interference(target, checkpoint, plan, texts, typed, SEED, session)


def _ask_all(
    asking: Asking,
    asked: Sequence[Question],
    checkpoint: Checkpoint,
    arms: tuple[ModelArm, ...],
    ends_at: float,
) -> list[dict[str, Outcome]]:
    """Ask every question in every way, in turn.

    Args:
        ends_at: No further question is begun then, monotonic clock.
    """
    for model in dict.fromkeys((asking.model, asking.thinker)):
        asking.call("warm-up", model, [{"role": "user", "content": "Hello"}], 8)
    found: list[dict[str, Outcome]] = []
    for number, question in enumerate(asked):
        if time.monotonic() >= ends_at:
            break
        key = f"question/{arms[0].name}/{number}"
        outcomes = checkpoint.get(key, dict[str, Outcome])
        if outcomes is None:
            turn = number % len(arms)
            outcomes = {
                arm.name: Typed(asking, question, arm).run() for arm in arms[turn:] + arms[:turn]
            }
            outcomes = {arm.name: outcomes[arm.name] for arm in arms}
            checkpoint.put(key, outcomes)
        found.append(outcomes)
        print(f"question {number + 1} of {len(asked)}, {arms[0].name} first", flush=True)
    return found
