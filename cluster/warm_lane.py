"""Lets background work through a little at a time, and never before an answer that waits.

An engine serves what runs first, whatever its priority: background work has to stay out of its
queue. What has been let through is not stopped by an answer that comes: a prefill is short, and a
thought is a row of a batch that many others share.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from headstart.cluster.stream import Stream
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark

__all__ = ["WarmLane"]


class WarmLane:
    """One replica's lane.

    Args:
        max_rows: Most background answers at once.
    """

    def __init__(self, max_rows: int) -> None:
        self._turn = asyncio.Lock()
        self._rows = asyncio.Semaphore(max_rows)
        self._waiting: set[Stream] = set()
        self._is_clear = asyncio.Event()
        self._is_clear.set()

    def give_way_to(self, stream: Stream) -> None:
        """Let nothing through until an answer has its first token, or has ended."""
        self._waiting.add(stream)
        self._is_clear.clear()
        stream.listen(_Wait(lambda: self._passed(stream)))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn to prefill, first come first served, and have it."""
        async with self._turn:
            await self._clear()
            yield

    @asynccontextmanager
    async def row(self) -> AsyncIterator[None]:
        """Wait for a place in the batch, and have it for one background answer."""
        async with self._rows:
            await self._clear()
            yield

    async def _clear(self) -> None:
        # Whoever is woken has its turn later: another answer may wait by then.
        while not self._is_clear.is_set():
            await self._is_clear.wait()

    def _passed(self, stream: Stream) -> None:
        self._waiting.discard(stream)
        if not self._waiting:
            self._is_clear.set()


class _Wait:
    def __init__(self, passed: Callable[[], None]) -> None:
        self._passed = passed

    def appended(self) -> None:
        pass

    def marked(self, mark: Mark, _at: float) -> None:
        if mark is Mark.FIRST_TOKEN:
            self._passed()

    def ended(self, _end: StreamEnd) -> None:
        self._passed()
