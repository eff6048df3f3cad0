"""What eight people who type cost everybody else: ordinary requests with and without them.

`bench live` has them type; in `bench livemind` what they type is thought about, too.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.live_replay import Target
from headstart.benchmarks.live_typing import Floor, live_prompt
from headstart.benchmarks.load import (
    PATIENCE_S,
    AnswerRefused,
    Exchange,
    chat_request,
    offer,
    timeline,
)
from headstart.benchmarks.scraped import total
from headstart.benchmarks.typists import TYPIST, Stroke, later, script

__all__ = ["NUM_TYPISTS", "Crowd", "CrowdPlan", "Rounds", "interference"]

NUM_TYPISTS = 8
LOAD = 0.5
"""Of what the engine can answer."""
_SETTLE_S = 1.0
_LOOK_S = 0.1
"""Between two looks at whether an engine has come to rest."""
_DONE = "headstart_live_stage_seconds_count{"
_AHEAD = ('stage="think"', 'stage="warm"')
_RUNNING = ("headstart_replica_running_requests{", "headstart_replica_waiting_requests{")


@dataclass(frozen=True, slots=True)
class CrowdPlan:
    """How much is measured."""

    num_blocks: int
    block_requests: int
    answer_tokens: int
    probe_requests: int
    """By how many the engine's capacity is found."""
    begin_s: float
    """What the typists have typed before is computed by then."""
    quiet_s: float
    """Nothing is computed for so long before requests are asked alone: longer than a still hand's
    text waits to be computed or thought about, and the second after which a load is told."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """One block: the same arrivals of the same prompts, without typists and with them."""

    alone_s: list[float]
    """To the first token, in the order of arrival."""
    beside_s: list[float]
    ahead_alone: int
    """Slices and thoughts for what was typed that ended beside the requests of the first."""
    ahead_beside: int
    """The same of the second."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """All blocks."""

    capacity_per_s: float
    """Requests that the engine answers, eight at once."""
    crowds: list[Crowd]


async def interference(
    target: Target,
    checkpoint: Checkpoint,
    plan: CrowdPlan,
    asked: Sequence[str],
    typed: Sequence[str],
    seed: int,
    session: Mapping[str, Any] | None = None,
) -> Rounds:
    """Measure blocks, with and without typists in turn.

    Args:
        asked: Prompts of the ordinary requests; enough for every block.
        typed: What the typists type, without end and without sending it off.
        session: Further fields of their sessions.
    """
    capacity = checkpoint.get("interference/capacity", float)
    if capacity is None:
        capacity = await _capacity(target, plan, asked)
        checkpoint.put("interference/capacity", capacity)
    keys = [f"interference/{block}" for block in range(plan.num_blocks)]
    crowds = [checkpoint.get(key, Crowd) for key in keys]
    floor = Floor()
    if None in crowds:
        async with _typists(target, typed, floor, seed, session or {}):
            await asyncio.sleep(plan.begin_s)
            for block, key in enumerate(keys):
                if crowds[block] is None:
                    at = block * plan.block_requests
                    own = asked[at : at + plan.block_requests]
                    crowds[block] = await _block(target, plan, own, floor, capacity, seed + block)
                    checkpoint.put(key, crowds[block])
                    _say(block, plan, crowds[block])
    return Rounds(capacity, crowds)


def _say(block: int, plan: CrowdPlan, crowd: Crowd) -> None:
    print(
        f"interference {block + 1}/{plan.num_blocks}: median first token "
        f"{np.median(crowd.beside_s):.3f} s beside {NUM_TYPISTS} typists, "
        f"{np.median(crowd.alone_s):.3f} s without",
        flush=True,
    )


async def _capacity(target: Target, plan: CrowdPlan, asked: Sequence[str]) -> float:
    texts = asked[: plan.probe_requests]
    requests = [_request(target, plan, text, "probe") for text in texts]
    await offer(target.url, requests[:1], 1)  # pays for what is made lazily
    exchanges = await offer(target.url, requests, NUM_TYPISTS)
    took_s = max(one.ended_at for one in exchanges) - min(one.sent_at for one in exchanges)
    return len(texts) / took_s


async def _block(
    target: Target,
    plan: CrowdPlan,
    asked: Sequence[str],
    floor: Floor,
    capacity: float,
    seed: int,
) -> Crowd:
    draw = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    gaps_s = [draw.expovariate(capacity * LOAD) for _ in asked]
    found: dict[bool, list[float]] = {}
    ahead: dict[bool, int] = {}
    for has_typists in (False, True) if seed % 2 else (True, False):
        salt = f"{seed} {has_typists}"
        requests = [_request(target, plan, text, salt) for text in asked]
        async with AsyncExitStack() as still:
            if not has_typists:
                await still.enter_async_context(floor.held())
                await _quiet(target, plan.quiet_s)
            before = (await _work(target)).num_done
            exchanges = await _open_loop(target, requests, gaps_s)
            ahead[has_typists] = (await _work(target)).num_done - before
        found[has_typists] = [timeline(one, plan.answer_tokens).first_s for one in exchanges]
    return Crowd(found[False], found[True], ahead[False], ahead[True])


@dataclass(frozen=True, slots=True)
class _Work:
    """What the gateway says of its engines."""

    num_done: int
    """Slices computed ahead and thoughts that have ended."""
    num_running: int
    """Requests in an engine or waiting for it, as last reported."""


async def _work(target: Target) -> _Work:
    async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client:
        told = (await client.get(f"{target.url}/metrics")).raise_for_status().text
    return _Work(
        num_done=int(sum(total(told, _DONE, stage) for stage in _AHEAD)),
        num_running=int(sum(total(told, name) for name in _RUNNING)),
    )


async def _quiet(target: Target, quiet_s: float) -> None:
    """Wait until nothing has been computed for so long.

    Raises:
        AnswerRefused: There is always something.
    """
    num_done, since = -1, time.monotonic()
    ends_at = since + PATIENCE_S
    while (now := time.monotonic()) - since < quiet_s:
        if now > ends_at:
            raise AnswerRefused(f"the engine still works {PATIENCE_S:.0f} s after the last key")
        work = await _work(target)
        if work.num_running or work.num_done != num_done:
            num_done, since = work.num_done, now
        await asyncio.sleep(_LOOK_S)


async def _open_loop(
    target: Target, requests: Sequence[bytes], gaps_s: Sequence[float]
) -> list[Exchange]:
    """Send each request when it is due, however many are in flight."""

    async def ask(request: bytes) -> Exchange:
        (exchange,) = await offer(target.url, [request], 1)
        return exchange

    due = time.monotonic() + _SETTLE_S
    async with asyncio.TaskGroup() as group:
        asking = []
        for request, gap_s in zip(requests, gaps_s, strict=True):
            due += gap_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            asking.append(group.create_task(ask(request)))
    return [task.result() for task in asking]


@asynccontextmanager
async def _typists(
    target: Target, typed: Sequence[str], floor: Floor, seed: int, session: Mapping[str, Any]
) -> AsyncIterator[None]:
    """Have prompts typed in real time, each by somebody who errs, pauses and is somewhere in it."""

    async def type_on(number: int) -> None:
        draw = random.Random(f"typist {seed} {number}")  # noqa: S311 - a place in a text
        text = typed[number % len(typed)]
        begun = draw.randrange(len(text) // 2)
        sampling = {"temperature": 0, "cache_salt": f"typist {number}"}
        async with live_prompt(target.url, target.model, sampling, **session) as prompt:
            while True:
                await prompt.type([Stroke(0.0, 0, 0, text[:begun])], floor)
                await prompt.type(later(script(TYPIST, text[begun:], number), begun), floor)
                await prompt.clear()

    typing = [asyncio.ensure_future(type_on(number)) for number in range(NUM_TYPISTS)]
    try:
        yield
        for task in typing:
            if task.done():
                task.result()  # says why somebody stopped typing
    finally:
        for task in typing:
            task.cancel()
        await asyncio.gather(*typing, return_exceptions=True)


def _request(target: Target, plan: CrowdPlan, text: str, salt: str) -> bytes:
    return chat_request(target.model, text, plan.answer_tokens, cache_salt=salt)
