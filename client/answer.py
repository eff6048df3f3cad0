"""One answer as its reader sees it: chunks, by whatever carrier, however often it fails.

`CarrierLadder` decides what is open; each open carrier is a task that fills one bounded queue; the
reader's own `anext` takes from it, so a slow reader holds back an event stream. Not so datagrams:
their session acknowledges them as they come and keeps them, no more than the answer has.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import msgspec
import openai

from headstart.client.carriers import Batch, CarrierLost, EventCarrier, SilentCarrier
from headstart.client.errors import error_in
from headstart.client.events import Event
from headstart.client.stopping import Stop, ask_to_stop
from headstart.stages.carrier_ladder import (
    Advanced,
    Available,
    CarrierLadder,
    Close,
    Failed,
    GiveUp,
    LadderAction,
    LadderLimits,
    Open,
    Opened,
    Quiet,
    Rung,
    Watch,
)
from headstart.stages.errors import EngineLost, EngineUnavailable, HeadstartError, ProtocolViolation
from headstart.stages.sse import DONE

__all__ = ["AsyncAnswer"]

_log = logging.getLogger(__name__)

Chunk = TypeVar("Chunk", bound=openai.BaseModel)

_QUEUED_BATCHES = 64
_CANCEL_TRIES = 3


@dataclass(frozen=True, slots=True)
class _Arrived:
    """What a carrier has brought, or how it ended: `batch` is None then."""

    rung: Rung
    task: asyncio.Task[None] | None
    batch: Batch | None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Usable:
    """A carrier could be opened now."""

    rung: Rung


class AsyncAnswer(Generic[Chunk]):
    """Yields the chunks of one streamed answer, each once and in order.

    It resumes by itself. Leaving it before its end, by `close` or the end of an `async with`, stops
    the answer on the server too.

    Args:
        stops: The ways to have it stopped; all are tried at once.
        answer_id: The gateway's id of the answer; empty where it is no Headstart gateway, whose
            answers cannot be resumed.
        carriers: The rungs there are; the event stream always is.
        first: The events of the response to the request.
        chunk_type: Class of a chunk.
        limits: How patient to be.
        on_close: Called once, when nothing more will come.
    """

    def __init__(
        self,
        stops: Sequence[Stop],
        answer_id: str,
        carriers: Mapping[Rung, EventCarrier],
        first: AsyncGenerator[Batch],
        chunk_type: type[Chunk],
        limits: LadderLimits | None = None,
        on_close: Callable[["AsyncAnswer[Chunk]"], None] = lambda _: None,
    ) -> None:
        self.id = answer_id
        self._stops = stops
        self._carriers = carriers
        self._chunk_type = chunk_type
        self._on_close = on_close
        has_datagrams = bool(answer_id) and Rung.DATAGRAMS in carriers
        self._ladder = CarrierLadder(has_datagrams, limits)
        self._before_last = 0
        self._ready: deque[Chunk] = deque()
        self._error: Exception | None = None
        self._is_over = False
        self._is_closed = False
        self._running: set[asyncio.Task[None]] = set()
        """All tasks that have not ended, those of carriers that are being closed too."""
        self._arrivals: asyncio.Queue[_Arrived | _Usable | None] = asyncio.Queue(_QUEUED_BATCHES)
        """What the reader is to look at; None wakes it at the end."""
        self._tasks: dict[Rung, asyncio.Task[None]] = {}
        """Of the open carriers."""
        self._start(Rung.SSE, first)
        self._act(self._ladder.start())

    @property
    def cursor(self) -> int:
        """Bytes of the answer's log that have been read."""
        return self._ladder.cursor

    @property
    def rungs(self) -> frozenset[Rung]:
        """What the answer is being read by."""
        return self._ladder.rungs

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """Return the next chunk.

        Raises:
            HeadstartError: The answer failed, was cancelled by somebody else, or cannot be had.
        """
        while not self._ready and not self._is_over:
            await self._take()
        if self._ready:
            return self._ready.popleft()
        await self._stop()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop reading, and stop the answer unless it has been read to its end."""
        if self._is_closed:
            return
        is_unfinished = not self._is_over
        await self._stop()
        if is_unfinished and self.id:
            await ask_to_stop(self._stops, self.id)

    async def cancel(self) -> None:
        """Stop the answer. What has been made of it so far was yielded, or is dropped.

        Raises:
            EngineUnavailable: The gateway could not be told.
        """
        self._is_over = True
        self._ready.clear()
        await self._stop()
        why = await ask_to_stop(self._stops, self.id, _CANCEL_TRIES) if self.id else None
        if why is not None:
            raise EngineUnavailable(f"the gateway could not be told to stop: {why}")

    async def _take(self) -> None:
        """Wait for what comes next, a carrier's events or the ladder's deadline."""
        loop = asyncio.get_running_loop()
        self._act(self._ladder.expire(loop.time()))
        if self._is_over:
            return
        try:
            async with asyncio.timeout_at(self._ladder.deadline()):
                arrived = await self._arrivals.get()
        except TimeoutError:
            return
        if arrived is None:
            return
        rung, now = arrived.rung, loop.time()
        if isinstance(arrived, _Usable):
            self._act(self._ladder.feed(Available(rung), now), is_climb=True)
            return
        if arrived.task is not self._tasks.get(rung):
            return  # closed before this was looked at: it counts for nothing, and comes again
        if arrived.batch is None:
            del self._tasks[rung]
            self._ended(rung, arrived.error, now)
        elif isinstance(arrived.batch, Quiet):
            self._act(self._ladder.feed(arrived.batch, now))
        else:
            self._act(self._ladder.feed(Opened(rung), now))
            for event in arrived.batch:
                if rung in self._ladder.rungs:
                    self._show(event, rung, now)

    def _ended(self, rung: Rung, error: Exception | None, now: float) -> None:
        is_loss = error is None or isinstance(error, CarrierLost)
        if not is_loss and rung is not Rung.DATAGRAMS:
            self._end(error)  # a refusal, or a fault of ours, which nobody shall wait for
        elif not self.id:
            self._end(EngineLost("the connection was lost, and this server cannot resume answers"))
        elif isinstance(error, SilentCarrier) and rung is not Rung.DATAGRAMS:
            self._act(self._ladder.feed(Quiet(rung), now))
        else:
            self._act(self._ladder.feed(Failed(rung), now))

    def _show(self, event: Event, rung: Rung, now: float) -> None:
        if self._is_over:
            return
        if event.cursor is not None:
            is_new = event.cursor > self._ladder.cursor
            if is_new:
                self._before_last = self._ladder.cursor
            self._act(self._ladder.feed(Advanced(rung, event.cursor), now))
            if not is_new:
                return
        if event.payload == DONE:
            self._end(None)
        elif (error := error_in(event.payload)) is not None:
            self._end(error)
        else:
            try:
                fields = msgspec.json.decode(event.payload)
            except msgspec.DecodeError as broken:
                self._end(ProtocolViolation(f"a chunk that is no JSON: {broken}"))
            else:
                self._ready.append(self._chunk_type.construct(**fields))

    def _end(self, error: Exception | None) -> None:
        self._is_over, self._error = True, error

    def _act(self, actions: Sequence[LadderAction], *, is_climb: bool = False) -> None:
        for action in actions:
            if isinstance(action, GiveUp):
                self._end(EngineLost("the connection was lost, and nobody answers at the gateway"))
            elif isinstance(action, Close):
                if (task := self._tasks.pop(action.rung, None)) is not None:
                    task.cancel()
            elif isinstance(action, Watch):
                self._run(self._watch(action.rung), f"watch {action.rung}")
            else:
                assert isinstance(action, Open)
                carrier = self._carriers[action.rung]
                before_last = self._before_last
                batches = carrier.read(self.id, action.after, before_last, is_climb=is_climb)
                self._start(action.rung, batches)

    def _start(self, rung: Rung, batches: AsyncGenerator[Batch]) -> None:
        self._tasks[rung] = self._run(self._carry(rung, batches), f"carry {rung}")

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _carry(self, rung: Rung, batches: AsyncGenerator[Batch]) -> None:
        task, error = asyncio.current_task(), None
        try:
            async with aclosing(batches):
                async for batch in batches:
                    await self._arrivals.put(_Arrived(rung, task, batch))
        except Exception as reason:
            error = reason
            if not isinstance(reason, CarrierLost | HeadstartError):
                _log.exception("reading an answer by %s failed", rung)
        await self._arrivals.put(_Arrived(rung, task, None, error))

    async def _watch(self, rung: Rung) -> None:
        await self._carriers[rung].usable()
        await self._arrivals.put(_Usable(rung))

    async def _stop(self) -> None:
        """Close every carrier, wake the reader, and wait until they are closed. Idempotent."""
        if self._is_closed:
            return
        self._is_over = self._is_closed = True
        self._tasks.clear()
        tasks = list(self._running)
        for task in tasks:
            if not task.cancelling():  # or it could not close what it reads
                task.cancel()
        while not self._arrivals.empty():
            self._arrivals.get_nowait()
        self._arrivals.put_nowait(None)
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._on_close(self)
