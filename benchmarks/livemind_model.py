"""What LiveMind does on real models: latency, accuracy and engine seconds of every arm.

The first configured model answers. If a second is configured, it thinks in the collaborative arm;
else the first does, with a prefix cache apart as another engine would have. In the end, what it
costs everybody else: ordinary requests beside sessions that are thought about.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvloop

from headstart.benchmarks import live_scores
from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.checks import Bar, Check, not_measured
from headstart.benchmarks.live_interference import CrowdPlan, Rounds, interference
from headstart.benchmarks.live_replay import Target
from headstart.benchmarks.livemind_protocol import (
    THOUGHT_TOKENS,
    Asking,
    ModelArm,
    Outcome,
    Typed,
)
from headstart.benchmarks.mmlu_pro import Question
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Table
from headstart.benchmarks.servers import launch_headstart, wait_until_ready
from headstart.configs.settings import Settings
from headstart.stages.mind_prompt import Format

__all__ = ["BESIDE", "SEED", "measure", "wilson"]

SEED = 42
QUICK_S = 180.0
"""Longest that a quick run asks the model."""
QUICK_QUESTIONS, QUICK_ANSWER_TOKENS = 40, 96
BESIDE = Bar("ordinary_first_token_p95_beside_8_thinkers", 1.1, "lower", "ratio")
CROWD = CrowdPlan(16, 24, answer_tokens=8, probe_requests=32, begin_s=15.0)
QUICK_CROWD = CrowdPlan(2, 12, answer_tokens=8, probe_requests=16, begin_s=10.0)
TYPED, TYPED_CHARS = 8, 400
"""Questions that one who types goes through, without sending any off, and their length at most."""


ARMS = (
    ModelArm("plain chain of thought", is_warm=False),
    ModelArm("warm only"),
    ModelArm("ua-spi", Format.UA_SPI),
    ModelArm("ua-pil", Format.UA_PIL),
    ModelArm("two-prompts", Format.TWO_PROMPTS),
    ModelArm("collaborative", Format.UA_SPI, thinker="other"),
    ModelArm("collaborative, replayed thinker", Format.UA_SPI, thinker="replayed"),
)


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
        return Found({"not_measured": why}, checks=[not_measured(BESIDE, why)])
    wanted = settings.bench
    limit = QUICK_ANSWER_TOKENS if options.is_quick else wanted.livemind_answer_tokens
    num = min(wanted.livemind_questions, QUICK_QUESTIONS if options.is_quick else len(asked))
    with tempfile.TemporaryDirectory() as folder:
        arm, argv, port = launch_headstart(settings, models, Path(folder))
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(arm, f"{url}/readyz")
            with httpx.Client(base_url=url, timeout=600, trust_env=False) as client:
                asking = Asking(client, models[0].name, models[-1].name, limit)
                found = _ask_all(asking, asked[:num], checkpoint, options.is_quick)
            target = Target(url, models[0].name)
            rounds = uvloop.run(_crowd(target, checkpoint, asked, options.is_quick))
        finally:
            arm.stop()
    config = {
        "models": [model.name for model in models],
        "command": list(argv),
        "questions": len(found),
        "answer_tokens": limit,
        "thought_tokens": THOUGHT_TOKENS,
        "thinker": "another model" if len(models) > 1 else "the same weights, another cache",
        "chance": float(np.mean([1 / one.num_options for one in asked[: len(found)]])),
        "questions_in_order": [one.number for one in asked[: len(found)]],
    }
    beside = live_scores.interference_check(rounds, is_quick=options.is_quick, bar=BESIDE)
    crowd = live_scores.interference_table(rounds, "who type in mode livemind")
    return Found(config, [_table(found), crowd], [beside])


async def _crowd(
    target: Target, checkpoint: Checkpoint, asked: Sequence[Question], is_quick: bool
) -> Rounds:
    """Ask ordinary questions with and without sessions that are thought about beside them."""
    plan = QUICK_CROWD if is_quick else CROWD
    texts = [one.text for one in asked]
    short = [text for text in reversed(texts) if len(text) <= TYPED_CHARS]
    typed = ["\n\n".join(short[at : at + TYPED]) for at in (0, TYPED)]
    session = {"mode": "livemind"}
    return await interference(target, checkpoint, plan, texts, typed, SEED, session)


def _ask_all(
    asking: Asking, asked: Sequence[Question], checkpoint: Checkpoint, is_quick: bool
) -> list[dict[str, Outcome]]:
    asking.call("warm-up", asking.model, [{"role": "user", "content": "Hello"}], 8)
    found: list[dict[str, Outcome]] = []
    began = time.monotonic()
    for number, question in enumerate(asked):
        if is_quick and time.monotonic() - began > QUICK_S:
            break
        key = f"question/{number}"
        outcomes = checkpoint.get(key, dict[str, Outcome])
        if outcomes is None:
            arms = ARMS[number % len(ARMS) :] + ARMS[: number % len(ARMS)]
            outcomes = {arm.name: Typed(asking, question, arm).run() for arm in arms}
            checkpoint.put(key, outcomes)
        found.append(outcomes)
        print(f"question {number + 1}: {time.monotonic() - began:.0f} s", flush=True)
    return found


def _table(found: Sequence[dict[str, Outcome]]) -> Table:
    rows = []
    for arm in ARMS:
        outcomes = [one[arm.name] for one in found]
        low, high = wilson(sum(one.is_right for one in outcomes), len(outcomes))
        rows.append(
            (
                arm.name,
                len(outcomes),
                *_spread([one.first_token_s for one in outcomes]),
                *_spread([one.whole_s for one in outcomes]),
                *_spread([one.engine_s for one in outcomes]),
                sum(one.is_right for one in outcomes) / max(1, len(outcomes)),
                low,
                high,
                sum(one.stated is None for one in outcomes) / max(1, len(outcomes)),
                float(np.mean([one.num_thoughts for one in outcomes])) if outcomes else None,
                float(np.mean([one.output_tokens for one in outcomes])) if outcomes else None,
            )
        )
    return Table(
        "Real models, seconds from the last character on, means with 95 % intervals. A small "
        "model's accuracy is near chance (config.model.chance), and says nothing of the method's",
        (
            *("arm", "questions", "first_s", "first_low", "first_high", "whole_s", "whole_low"),
            *("whole_high", "engine_s", "engine_low", "engine_high", "accuracy", "acc_low"),
            *("acc_high", "without_letter", "thoughts", "answer_tokens"),
        ),
        tuple(rows),
    )


def _spread(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return the mean and its 95 % interval, by resampling; None where there are too few."""
    if not values:
        return None, None, None
    mean = float(np.mean(values))
    if len(values) < 4:
        return mean, None, None
    random = np.random.default_rng(0)
    drawn = random.choice(np.asarray(values), size=(2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return mean, float(low), float(high)


def wilson(num_right: int, num: int) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a share (Wilson's)."""
    if not num:
        return None, None
    z, share = 1.96, num_right / num
    middle = share + z * z / (2 * num)
    half = z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return (middle - half) / (1 + z * z / num), (middle + half) / (1 + z * z / num)
