"""The product itself: questions typed into `/v1/realtime` in real time, and thought about there.

Nothing stands in for the daemon's sessions, lane, thinker and limits: they are as shipped. The
options come with the last key, which the commit follows at once; the clock begins there.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.live_replay import Target
from headstart.benchmarks.live_typing import Answered, live_prompt, plain
from headstart.benchmarks.livemind_protocol import Outcome
from headstart.benchmarks.mmlu_pro import Question, answer_in
from headstart.benchmarks.typists import Stroke, script

__all__ = ["ARMS", "TYPED_AS", "SessionArm", "typed_sessions"]

TYPED_AS = "1200"
"""Characters a minute: five times the paper's, which would take five times as long."""
CHARS = range(80, 301)
"""Lengths of the questions that are typed: with less there is nothing to think about."""
_REST_S = 0.5
"""Before each arm: an engine has one more step under way when an answer has ended."""


@dataclass(frozen=True, slots=True)
class SessionArm:
    """One way to ask."""

    name: str
    session: Mapping[str, Any] | None
    """Further fields of a live prompt's; None asks in one piece."""


ARMS = (
    SessionArm("plain, in one piece", None),
    SessionArm("warm only, typed", {}),
    SessionArm("livemind, typed, shipped defaults", {"mode": "livemind"}),
    SessionArm("livemind, typed, waits", {"mode": "livemind", "livemind": {"at_commit": "wait"}}),
)


async def typed_sessions(
    target: Target,
    checkpoint: Checkpoint,
    asked: Sequence[Question],
    num: int,
    max_tokens: int,
    ends_at: float,
) -> list[dict[str, Outcome]]:
    """Ask questions in every way, one after the other.

    Args:
        asked: Of these, the first that are neither short nor long.
        num: Most that are asked.
        max_tokens: Of an answer.
        ends_at: No further question is begun then, monotonic clock.
    """
    found: list[dict[str, Outcome]] = []
    fitting = [one for one in asked if len(one.text) in CHARS][:num]
    await plain(target.url, target.model, "Say one.", 8)  # what is made lazily is not measured
    for number, question in enumerate(fitting):
        key = f"session/{number}"
        outcomes = checkpoint.get(key, dict[str, Outcome])
        if outcomes is None:
            if time.monotonic() >= ends_at:
                break
            turn = number % len(ARMS)
            outcomes = {
                arm.name: await _outcome(target, question, arm, max_tokens)
                for arm in ARMS[turn:] + ARMS[:turn]
            }
            outcomes = {arm.name: outcomes[arm.name] for arm in ARMS}
            checkpoint.put(key, outcomes)
        found.append(outcomes)
        print(f"session {number + 1} of {len(fitting)}", flush=True)
    return found


async def _outcome(target: Target, question: Question, arm: SessionArm, max_tokens: int) -> Outcome:
    await asyncio.sleep(_REST_S)
    # A token at least: an answer without any has no times.
    sampling: dict[str, Any] = {
        "cache_salt": f"{arm.name} {question.number}",
        "temperature": 0,
        "ignore_eos": False,
        "min_tokens": 1,
    }
    if arm.session is None:
        said = await plain(target.url, target.model, question.whole, max_tokens, **sampling)
    else:
        sampling["max_tokens"] = max_tokens
        said = await _typed(target, question, sampling, arm.session)
    stated = answer_in(said.text)
    return Outcome(
        said.first_s,
        said.whole_s,
        said.engine_s,
        stated,
        stated == question.answer,
        said.thoughts,
        said.output_tokens,
    )


async def _typed(
    target: Target, question: Question, sampling: dict[str, Any], session: Mapping[str, Any]
) -> Answered:
    end = len(question.text)
    strokes = script(TYPED_AS, question.text, question.number)
    async with live_prompt(target.url, target.model, sampling, **session) as prompt:
        await prompt.type([*strokes, Stroke(0.0, end, end, question.options)])
        return await prompt.commit()
