"""The fake engine's step loop: one batch, whose every step serves every running row at once.

Knows rows, speeds and the prefix cache; what an answer looks like is its owner's business.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

from headstart.cluster.engine import EngineLoad
from headstart.cluster.fake_cache import PrefixCache
from headstart.cluster.fake_text import Token
from headstart.configs.model_settings import FakeEngineSettings
from headstart.stages.errors import EngineUnavailable

__all__ = ["Batch", "Row", "RowOwner"]

MAX_RUNNING = 256
"""Rows that a step serves, as vLLM's `max_num_seqs` on a CPU."""
MAX_WAITING = 1024


class RowOwner(Protocol):
    """Told what happens to a row, in the turn of the step in which it happens."""

    def scheduled(self, row: "Row", at: float) -> None: ...

    def sampled(self, row: "Row", tokens: tuple[int, ...], text: str, at: float) -> None: ...


class Row:
    """One prompt and the tokens it gets.

    Args:
        owner: Told of everything.
        choice: The owner's own number for the row.
        prompt: Token ids.
        words: Where its tokens come from.
        limit: How many it gets, at least 1.
        salt: Whose part of the prefix cache it may use.
    """

    __slots__ = (
        "choice",
        "is_decoding",
        "limit",
        "not_before",
        "num_cached",
        "num_repeated",
        "num_sampled",
        "owner",
        "prompt",
        "salt",
        "words",
    )

    def __init__(
        self,
        owner: RowOwner,
        choice: int,
        prompt: Sequence[int],
        words: Iterator[Token],
        limit: int,
        salt: str | None,
    ) -> None:
        self.owner = owner
        self.choice = choice
        self.prompt = prompt
        self.words = words
        self.limit = limit
        self.salt = salt
        self.num_sampled = 0
        self.num_cached = 0
        """Prompt tokens found in the prefix cache; known once the row is scheduled."""
        self.num_repeated = 0
        """Tokens that it had from another engine before it came; they are computed as a prompt."""
        self.is_decoding = False
        """Whether the row has its first token."""
        self.not_before = 0.0
        """When the row may get its next token, on the monotonic clock."""

    @property
    def is_complete(self) -> bool:
        """Whether it has all its tokens."""
        return self.num_sampled >= self.limit

    def give(self, count: int, at: float) -> None:
        """Sample so many tokens at once, at a moment of the monotonic clock."""
        ids, texts = zip(*islice(self.words, count), strict=True)
        self.num_sampled += count
        self.owner.sampled(self, ids, "".join(texts), at)

    def repeat(self, steps: Sequence[tuple[int, ...]], at: float) -> None:
        """Sample what another engine had sampled, in the same steps."""
        for tokens in steps:
            self.give(len(tokens), at)
        self.num_repeated = self.num_sampled


class Batch:
    """Rows that run and rows that wait.

    A first token comes the moment its row's prefill is done; all further ones on the steps' common
    beat, which starts anew where it was missed.
    """

    def __init__(self, settings: FakeEngineSettings, cache: PrefixCache) -> None:
        self._settings = settings
        self._cache = cache
        self._step_s = (
            settings.tokens_per_step / settings.tokens_per_s if settings.tokens_per_s else 0.0
        )
        self._next_step = 0.0
        # Dictionaries as ordered sets: a row may leave from anywhere.
        self._running: dict[Row, None] = {}
        self._waiting: dict[Row, None] = {}
        self._changed = asyncio.Event()

    @property
    def load(self) -> EngineLoad:
        """How many rows run and wait."""
        return EngineLoad(len(self._running), len(self._waiting))

    def add(self, row: Row) -> None:
        """Put a row at the end of the line.

        Raises:
            EngineUnavailable: The line is full.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise EngineUnavailable(f"{MAX_WAITING} requests wait already; ask again later")
        self._waiting[row] = None
        self._changed.set()

    def remove(self, row: Row) -> None:
        """Give a row nothing more. Finished ones are ignored."""
        self._waiting.pop(row, None)
        self._running.pop(row, None)
        self._changed.set()

    async def run(self) -> None:
        """Make steps until cancelled."""
        while True:
            self._changed.clear()
            now = time.monotonic()
            self._admit(now)
            self._step(now)
            wake = self._next_wake()
            if wake is None:
                self._next_step = 0.0  # the beat begins with whoever comes next
                await self._changed.wait()
            elif (delay := wake - time.monotonic()) <= 0:
                await asyncio.sleep(0)
            else:
                await self._sleep(delay)

    def _admit(self, now: float) -> None:
        while self._waiting and len(self._running) < MAX_RUNNING:
            row = next(iter(self._waiting))
            del self._waiting[row]
            self._running[row] = None
            row.num_cached = self._cache.count(row.prompt, row.salt)
            row.not_before = now + self._prefill_s(
                len(row.prompt) + row.num_repeated - row.num_cached
            )
            row.owner.scheduled(row, now)

    def _prefill_s(self, num_tokens: int) -> float:
        settings = self._settings
        speed = settings.prefill_tokens_per_s
        return (
            settings.time_to_first_token_s
            + (num_tokens / speed if speed else 0.0)
            + settings.stage_delays_s.get("prefill", 0.0)
        )

    def _step(self, now: float) -> None:
        is_beat = now >= self._next_step
        has_served = False
        for row in tuple(self._running):
            if row.not_before > now:
                continue
            if not row.is_decoding:
                self._begin(row, now)
            elif not is_beat:
                continue
            self._give(row, now)
            has_served = True
        if is_beat and has_served:
            self._next_step += self._step_s
            if self._next_step < now:
                self._next_step = now + self._step_s

    def _begin(self, row: Row, now: float) -> None:
        self._cache.add(row.prompt, row.salt)
        row.is_decoding = True
        row.not_before = now + self._settings.stage_delays_s.get("decode", 0.0)

    def _give(self, row: Row, now: float) -> None:
        count = min(self._settings.tokens_per_step, row.limit - row.num_sampled)
        if row.num_sampled + count == row.limit:
            del self._running[row]
        row.give(count, now)

    def _next_wake(self) -> float | None:
        """When there is something to do, on the monotonic clock; None if nothing is to come."""
        if self._waiting and len(self._running) < MAX_RUNNING:
            return 0.0
        return min(
            (
                max(row.not_before, self._next_step) if row.is_decoding else row.not_before
                for row in self._running
            ),
            default=None,
        )

    async def _sleep(self, delay: float) -> None:
        """Wait for so many seconds, or until a row comes or goes."""
        try:
            async with asyncio.timeout(delay):
                await self._changed.wait()
        except TimeoutError:
            return
