"""Types prompts of every length in every way, and asks for each in one piece beside it.

Several prompts are typed at once, but whoever is about to finish has the floor: alone he types his
last keys, sends off, is answered, and has the plain request answered. So typing in parallel saves
time and changes no figure.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.live_typing import Answered, Floor, live_prompt, plain
from headstart.benchmarks.typists import EDITED, compressed, script, seconds, tail

__all__ = ["Lengths", "Measured", "Part", "Replay", "Target"]

_REST_S = 0.3
"""Before a plain request: an engine has one more step under way when an answer has ended, and the
other typists' last slices."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured."""

    url: str
    model: str


@dataclass(frozen=True, slots=True)
class Part:
    """How prompts are typed: in real time, or with the gaps compressed."""

    name: str
    scale: float
    """By this the gaps are divided, and the server's debounce too."""
    at_once: int
    """Prompts that are typed at the same time."""
    alone_s: float
    """Before the last key, for which the one that finishes has the floor. Wall time."""
    arms: Mapping[str, int]
    """How many prompts of each class are typed in which way."""
    num_whole: int
    """Of these, how many have an answer of a real one's length."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of answers, tokens."""

    first: int
    """Where the first token is what counts."""
    whole: int
    """Where the time to the last one counts, too."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One prompt, typed and in one piece."""

    part: str
    arm: str
    length: str
    typed_s: float
    """In seconds of whoever typed."""
    num_strokes: int
    is_whole: bool
    """Whether the answer is of a real one's length."""
    live: Answered
    plain: Answered

    @property
    def is_same(self) -> bool:
        """Whether both answers are the same text."""
        return self.live.text == self.plain.text


@dataclass(frozen=True, slots=True)
class _Job:
    part: Part
    arm: str
    length: str
    index: int
    text: str

    @property
    def key(self) -> str:
        return f"{self.part.name}/{self.arm}/{self.length}/{self.index}"

    @property
    def is_whole(self) -> bool:
        return self.index < self.part.num_whole


class Replay:
    """Measures one part.

    Args:
        target: Where.
        checkpoint: Has what was measured before, and gets the rest.
        lengths: Of the answers.
        seed: Of the typist.
    """

    def __init__(self, target: Target, checkpoint: Checkpoint, lengths: Lengths, seed: int) -> None:
        self._target = target
        self._checkpoint = checkpoint
        self._lengths = lengths
        self._seed = seed
        self._floor = Floor()
        self._num_left = 0

    async def measure(
        self, part: Part, prompts: Mapping[str, Sequence[str]], late_edits: int = 0
    ) -> list[Measured]:
        """Measure every arm on the same prompts.

        Args:
            prompts: By class, the longest last; at least as many as an arm wants.
            late_edits: How many of the longest are typed with an edit in the last tenth as well.
        """
        jobs = _jobs(part, prompts, late_edits)
        found = {job.key: self._checkpoint.get(job.key, Measured) for job in jobs}
        left = [job for job in jobs if found[job.key] is None]
        self._num_left = len(left)
        hands = asyncio.Semaphore(part.at_once)

        async def work(job: _Job) -> None:
            async with hands:
                found[job.key] = await self._measure(job)
            self._checkpoint.put(job.key, found[job.key])
            self._say(found[job.key])

        if left:
            # What is made lazily is not measured.
            await self._plain("Say one.", self._lengths.first, "first")
        async with asyncio.TaskGroup() as group:
            for job in left:
                group.create_task(work(job))
        return [found[job.key] for job in jobs]

    async def _measure(self, job: _Job) -> Measured:
        part = job.part
        strokes = script(job.arm, job.text, self._seed + job.index)
        typed_s = seconds(strokes)
        strokes = compressed(strokes, part.scale)
        alone = tail(strokes, part.alone_s)
        num_tokens = self._lengths.whole if job.is_whole else self._lengths.first
        sampling = {"temperature": 0, "max_tokens": num_tokens, "ignore_eos": True}
        # One salt for a side of an arm: prompts find what earlier ones left there, and no others.
        salt = f"{part.name} {job.arm}"
        live_salt = {"cache_salt": f"{salt} live"}
        async with AsyncExitStack() as session:
            typing = live_prompt(self._target.url, self._target.model, sampling | live_salt)
            prompt = await session.enter_async_context(typing)
            await prompt.type(strokes[:alone], self._floor)
            async with self._floor.held():
                whole: Answered | None = None
                if job.index % 2:
                    whole = await self._plain(job.text, num_tokens, f"{salt} plain")
                await prompt.type(strokes[alone:])
                live = await prompt.commit()
                await session.aclose()  # or what goes on from the answer would be computed ahead
                if whole is None:
                    whole = await self._plain(job.text, num_tokens, f"{salt} plain")
        told = part.name, job.arm, job.length, typed_s, len(strokes), job.is_whole
        return Measured(*told, live, whole)

    async def _plain(self, text: str, num_tokens: int, salt: str) -> Answered:
        await asyncio.sleep(_REST_S)
        url, model = self._target.url, self._target.model
        return await plain(url, model, text, num_tokens, cache_salt=salt)

    def _say(self, one: Measured) -> None:
        self._num_left -= 1
        print(
            f"{one.part}, {one.arm}, {one.length}: first token {one.live.first_s:.3f} s instead of "
            f"{one.plain.first_s:.3f} s; {self._num_left} to go",
            flush=True,
        )


def _jobs(part: Part, prompts: Mapping[str, Sequence[str]], late_edits: int) -> list[_Job]:
    """List what to measure, what takes longest first so that nobody types alone in the end."""
    jobs = [
        _Job(part, arm, length, index, texts[index])
        for length, texts in prompts.items()
        for arm, num in part.arms.items()
        for index in range(num)
    ]
    if late_edits:
        length, texts = list(prompts.items())[-1]
        jobs += [_Job(part, EDITED, length, index, texts[index]) for index in range(late_edits)]
    cost: dict[str, float] = {job.key: seconds(script(job.arm, job.text, 0)) for job in jobs}
    return sorted(jobs, key=lambda job: -cost[job.key])
