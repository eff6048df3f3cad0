"""Rounds of streams into which a process is killed, and what became of each stream."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from headstart.benchmarks.fault_daemon import FaultyDaemon
from headstart.benchmarks.fault_readers import Answer, Transcript, ask, chat, transcript

__all__ = ["Found", "gateway_round", "reference", "replica_round"]

PATH = "/v1/chat/completions"
RETRYABLE = {"type": "ServiceUnavailableError", "code": 503}
PATIENCE_S = 240.0
MOVED = ("headstart_rescues_total", 'outcome="moved"')


@dataclass
class Found:
    """What many rounds found."""

    kills: int = 0
    gateway_kills: int = 0
    streams: int = 0
    detached: int = 0
    detached_completed: int = 0
    plain_interrupted: int = 0
    plain_retryable: int = 0
    lost_or_changed_bytes: int = 0
    moved: float = 0
    """Answers that another replica, or the same one started anew, went on with."""
    orphaned_engines: int = 0
    """Most engine processes that had no replica any more."""
    heal_s: list[float] = field(default_factory=list)
    restart_s: list[float] = field(default_factory=list)
    first_answer_s: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def reference(
    daemon: FaultyDaemon, prompts: Sequence[str], num_tokens: int
) -> list[Transcript]:
    """Answers that nothing interrupts, in the concurrency of a round."""
    answers = await _all(daemon, prompts, num_tokens, [False] * len(prompts))
    return [transcript(bytes(answer.body)) for answer in await answers.finished()]


async def replica_round(
    daemon: FaultyDaemon,
    prompts: Sequence[str],
    expected: Sequence[Transcript],
    num_tokens: int,
    draw: random.Random,
    found: Found,
) -> None:
    """Kill one replica amid streams, every other one of them detached."""
    running = await _amid(daemon, prompts, num_tokens, draw)
    moved_before = daemon.gauge(*MOVED)
    at = daemon.kill(draw.choice(daemon.replicas()))
    found.kills += 1
    await daemon.until(lambda: daemon.num_linked() < daemon.model.replicas)
    healing = asyncio.ensure_future(daemon.healed(at))
    if daemon.model.replicas == 1:
        await daemon.until(lambda: not daemon.is_ready())
        found.first_answer_s.append(await daemon.answers_again(at))
    answers = await running.finished()
    found.heal_s.append(await healing)
    found.moved += daemon.gauge(*MOVED) - moved_before
    if daemon.model.engine == "vllm":
        orphans = daemon.num_engines() - daemon.model.replicas
        found.orphaned_engines = max(found.orphaned_engines, orphans)
    for answer, want, is_detached in zip(answers, expected, running.detached, strict=True):
        await _judge(daemon, answer, want, found, is_detached=is_detached)


async def gateway_round(
    daemon: FaultyDaemon,
    prompts: Sequence[str],
    expected: Sequence[Transcript],
    num_tokens: int,
    draw: random.Random,
    found: Found,
) -> None:
    """Kill the gateway amid streams; readers of detached ones come back for the rest."""
    running = await _amid(daemon, prompts, num_tokens, draw)
    at = daemon.kill(daemon.gateway())
    found.gateway_kills += 1
    answers = await running.finished()
    found.restart_s.append(await daemon.listens_again(at))
    for answer, want, is_detached in zip(answers, expected, running.detached, strict=True):
        found.streams += 1
        if not is_detached:
            _compare_beginning(answer, want, found)
            continue
        found.detached += 1
        # Cut what was torn inside an event: a reader acts on whole ones.
        whole = bytes(answer.body[: answer.body.rfind(b"\n\n") + 2])
        cursor = transcript(whole).last_cursor
        rest = await _get(daemon, f"/v1/streams/{answer.stream_id}?after={cursor}")
        answer.body = bytearray(whole + rest.body)
        await _judge_detached(daemon, answer, want, found)


@dataclass
class _Running:
    detached: Sequence[bool]
    answers: list[Answer]
    tasks: list[asyncio.Task[Answer]]

    async def amid(self, num_events: int) -> None:
        """Wait until every stream is so far, then a moment of its own."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(answer.reaches(num_events) for answer in self.answers))

    async def finished(self) -> list[Answer]:
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.gather(*self.tasks)


async def _all(
    daemon: FaultyDaemon, prompts: Sequence[str], num_tokens: int, detached: Sequence[bool]
) -> _Running:
    answers = [Answer() for _ in prompts]
    tasks = [
        asyncio.ensure_future(
            ask(
                daemon.address,
                "POST",
                PATH,
                chat(daemon.model.name, prompt, num_tokens),
                answer=answer,
                is_detached=is_detached,
            )
        )
        for prompt, answer, is_detached in zip(prompts, answers, detached, strict=True)
    ]
    return _Running(detached, answers, tasks)


async def _amid(
    daemon: FaultyDaemon, prompts: Sequence[str], num_tokens: int, draw: random.Random
) -> _Running:
    """Ask for answers, every other one detached, and wait until they are under way."""
    running = await _all(daemon, prompts, num_tokens, [bool(n % 2) for n in range(len(prompts))])
    await running.amid(draw.randrange(3, num_tokens // 2))
    return running


async def _judge(
    daemon: FaultyDaemon, answer: Answer, want: Transcript, found: Found, *, is_detached: bool
) -> None:
    found.streams += 1
    if is_detached:
        found.detached += 1
        await _judge_detached(daemon, answer, want, found)
        return
    got = transcript(bytes(answer.body))
    if got.error is None:
        if not got.same_answer(want):
            found.lost_or_changed_bytes += _differing_bytes(got.text, want.text) or 1
        return
    found.plain_interrupted += 1
    _compare_beginning(answer, want, found)
    is_retryable = {name: got.error.get(name) for name in RETRYABLE} == RETRYABLE
    found.plain_retryable += is_retryable and got.is_done and answer.is_complete


async def _judge_detached(
    daemon: FaultyDaemon, answer: Answer, want: Transcript, found: Found
) -> None:
    got = transcript(bytes(answer.body))
    ascends = list(got.cursors) == sorted(set(got.cursors))
    if got.same_answer(want) and ascends:
        found.detached_completed += 1
    else:
        found.lost_or_changed_bytes += _differing_bytes(got.text, want.text)
        found.notes.append(f"detached: {got.error or 'differs'} after {len(got.text)} characters")
        if not ascends:
            found.lost_or_changed_bytes += 1
    again = await _get(daemon, f"/v1/streams/{answer.stream_id}")
    first, second = _events(answer.body), _events(again.body)
    if got.error is None and first != second:
        found.lost_or_changed_bytes += abs(len(first) - len(second)) or 1
        found.notes.append("a second reading differs from the first")


def _events(body: bytearray) -> bytes:
    """A body without the comments that fill a long pause."""
    parts = bytes(body).split(b"\n\n")
    return b"\n\n".join(part for part in parts if not part.startswith(b":"))


def _compare_beginning(answer: Answer, want: Transcript, found: Found) -> None:
    got = transcript(bytes(answer.body)).text
    found.lost_or_changed_bytes += _differing_bytes(got, want.text[: len(got)])


def _differing_bytes(got: str, want: str) -> int:
    left, right = got.encode(), want.encode()
    same = sum(one == other for one, other in zip(left, right, strict=False))
    return max(len(left), len(right)) - same


async def _get(daemon: FaultyDaemon, path: str) -> Answer:
    began = time.monotonic()
    while True:
        try:
            answer = await ask(daemon.address, "GET", path)
        except OSError:
            answer = Answer()
        if answer.status == 200 or time.monotonic() - began > PATIENCE_S:
            return answer
        if answer.status == 404:
            return answer
        await asyncio.sleep(0.05)
