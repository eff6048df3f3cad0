"""A token log that can be waited for, and the table that keeps logs until they expire."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from headstart.stages.errors import NotContinued, NotFound, ProtocolViolation
from headstart.stages.failure import Failure
from headstart.stages.frames import Frame, StreamHeader
from headstart.stages.mirror import StreamEnd
from headstart.stages.replay import Replay
from headstart.stages.retention import Retention
from headstart.stages.shared_room import SharedRoom
from headstart.stages.stage_clock import Mark, StageClock
from headstart.stages.token_log import TokenLog

if TYPE_CHECKING:
    from headstart.cluster.engine import EngineRequest

__all__ = ["Stream", "StreamListener", "StreamTable"]

_log = structlog.get_logger(__name__)


class StreamListener(Protocol):
    """Told of everything that happens to a stream, in order, on the event loop."""

    def appended(self) -> None: ...

    def marked(self, mark: Mark, at: float) -> None: ...

    def ended(self, end: StreamEnd) -> None: ...


class Stream:
    """One answer in the making: its log, its clock, and whoever waits for more.

    Belongs to one event loop.
    """

    def __init__(self, stream_id: str, max_bytes: int) -> None:
        self.id = stream_id
        self.log = TokenLog(max_bytes)
        self.clock = StageClock()
        self.clock_uncertainty_s: float | None = None
        """Largest error of the marks that came from another process; None before the first."""
        self.tokens = (0, 0)
        """Of prompt and answer so far, as the engine counts them."""
        self.end: StreamEnd | None = None
        """Set when the log is closed."""
        self.replay: Replay | None = None
        """Set where an answer is made again that another replica had begun."""
        self.is_detached = False
        """Whether the answer outlives who asked for it."""
        self.request: EngineRequest | None = None
        """What asked for a live detached answer, if it is kept for making it again."""
        self._listeners: list[StreamListener] = []
        """Who is told; one may leave while it is, so whoever tells walks a copy."""
        self._waiters: set[asyncio.Future[bool]] = set()
        self._end_callbacks: list[Callable[[], None]] = []

    @property
    def failure(self) -> Failure | None:
        """Why the stream ended without the whole answer; None where it did not."""
        return None if self.end is None else self.end.failure

    def go_on_from(self, logged: bytes) -> None:
        """Begin with the log of an answer that another replica had begun.

        Raises:
            ProtocolViolation: `logged` is not a log up to a cursor.
        """
        self.replay = Replay(logged)
        self.log.extend(logged)

    def append(self, record: StreamHeader | Frame) -> None:
        """Append a record to the log and wake readers, unless the log holds it already.

        Raises:
            NotContinued: The log holds another in its place.
        """
        if self.replay is not None:
            news = self.replay.take(record)
            if news is None:
                return
            record = news
        self.log.append(record)
        self._grown()

    def extend(self, data: bytes) -> None:
        """Append encoded records to the log and wake readers."""
        self.log.extend(data)
        self._grown()

    def mark(self, mark: Mark, at: float) -> None:
        """Note a moment of the request, in seconds on the local monotonic clock."""
        self.clock.set(mark, at)
        for listener in tuple(self._listeners):
            listener.marked(mark, at)
        self._wake()

    def finish(self, end: StreamEnd) -> None:
        """Close the log. Later calls are ignored: the first end is the true one."""
        if self.end is not None:
            return
        if self.replay is not None and not self.replay.is_over and end.failure is None:
            shorter = NotContinued("the replica was lost, and another gave a shorter answer")
            if not end.is_aborted:
                end = msgspec.structs.replace(end, failure=Failure.of(shorter))
        if not end.is_whole and not end.prompt_tokens:
            # Whoever made the answer was not there to count it.
            prompt_tokens, output_tokens = self.tokens
            end = msgspec.structs.replace(
                end, prompt_tokens=prompt_tokens, output_tokens=output_tokens
            )
        self.log.close()
        self.end = end
        for listener in tuple(self._listeners):
            listener.ended(end)
        self._listeners.clear()
        self._wake()
        for callback in self._end_callbacks:
            self._call(callback)
        self._end_callbacks.clear()

    def listen(self, listener: StreamListener) -> None:
        """Tell `listener` of everything from now on, until the stream ends."""
        if self.end is None:
            self._listeners.append(listener)

    def unlisten(self, listener: StreamListener) -> None:
        """Stop telling `listener`. Unknown listeners are ignored."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the stream has ended, at once if it has.

        A fault in it is logged: the others are called, and whoever ends the stream goes on.
        """
        if self.end is None:
            self._end_callbacks.append(callback)
        else:
            self._call(callback)

    async def grown(self, after: int, patience_s: float | None = None) -> bool:
        """Wait until the log reaches past the cursor `after`, or the stream has ended.

        Args:
            patience_s: How long to wait at most; None is for as long as it takes.

        Returns:
            False where patience ran out first.
        """
        return await self.until(lambda: self.log.end > after, patience_s)

    async def until(self, is_enough: Callable[[], bool], patience_s: float | None = None) -> bool:
        """Wait until a condition on the log or the clock holds, or the stream has ended.

        Args:
            patience_s: As for `grown`.

        Returns:
            False where patience ran out first.
        """
        loop = asyncio.get_running_loop()
        deadline = None if patience_s is None else loop.time() + patience_s
        while self.end is None and not is_enough():
            waiter: asyncio.Future[bool] = loop.create_future()
            # Every token of every answer waits here: `asyncio.timeout` takes an eighth of what
            # it costs to pass one on.
            alarm = None if deadline is None else loop.call_at(deadline, _resolve, waiter, False)
            self._waiters.add(waiter)
            try:
                if not await waiter:
                    return False
            finally:
                self._waiters.discard(waiter)
                if alarm is not None:
                    alarm.cancel()
        return True

    async def finished(self) -> None:
        """Wait until the stream has ended."""
        await self.until(lambda: False)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:
            _log.error("end_callback_failed", stream_id=self.id, exc_info=error)

    def _grown(self) -> None:
        for listener in tuple(self._listeners):
            listener.appended()
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            _resolve(waiter, True)
        self._waiters.clear()


def _resolve(waiter: asyncio.Future[bool], is_enough: bool) -> None:
    if not waiter.done():
        waiter.set_result(is_enough)


class StreamTable:
    """Streams by id, live ones and finished ones that have not expired.

    Args:
        retention: Decides which finished logs to drop.
        max_stream_bytes: Most one log may hold.
        now: The local monotonic clock, in seconds.
        max_request_bytes: Most that the bodies of kept requests may hold together; the keys share
            it.
    """

    def __init__(
        self,
        retention: Retention,
        max_stream_bytes: int,
        now: Callable[[], float],
        max_request_bytes: int = 32 << 20,
    ) -> None:
        self._requests = SharedRoom(max_request_bytes)
        self._retention = retention
        self._max_stream_bytes = max_stream_bytes
        self.now = now
        self._streams: dict[str, Stream] = {}
        self._live: dict[str, Stream] = {}
        """Those of them that have not ended."""

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream_id: str) -> bool:
        return stream_id in self._streams

    def create(self, stream_id: str, logged: bytes = b"") -> Stream:
        """Begin a stream.

        Args:
            logged: What another replica had written of it.

        Raises:
            ProtocolViolation: The id is in use, or `logged` is no log.
        """
        if stream_id in self._streams:
            raise ProtocolViolation(f"stream id {stream_id} is in use")
        stream = Stream(stream_id, self._max_stream_bytes)
        if logged:
            stream.go_on_from(logged)
        self._streams[stream_id] = self._live[stream_id] = stream
        stream.on_end(lambda: self._ended(stream))
        return stream

    def detach(self, stream: Stream, request: "EngineRequest | None") -> None:
        """Have a live stream outlive who asked for it.

        Args:
            request: Kept until the stream ends, as long as there is room for its body.
        """
        stream.is_detached = True
        if stream.end is not None or request is None or stream.request is not None:
            return
        if self._requests.take(request.key_id, len(request.body)):
            stream.request = request
            stream.on_end(lambda: self._forget_request(stream, request))

    @property
    def detached(self) -> list[Stream]:
        """Detached streams, live and finished."""
        return [stream for stream in self._streams.values() if stream.is_detached]

    def _forget_request(self, stream: Stream, request: "EngineRequest") -> None:
        stream.request = None
        self._requests.give_back(request.key_id, len(request.body))

    def get(self, stream_id: str) -> Stream:
        """Return a kept stream.

        Raises:
            NotFound: It is unknown or expired.
        """
        self.expire()
        stream = self._streams.get(stream_id)
        if stream is None:
            raise NotFound(f"no stream {stream_id}: unknown or expired")
        return stream

    def drop(self, stream_id: str) -> None:
        """Forget a finished stream now. Live and unknown ones are left alone."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.end is not None:
            del self._streams[stream_id]
            self._retention.removed(stream_id)

    def expire(self) -> None:
        """Forget the finished streams whose time or bytes have run out."""
        for stream_id in self._retention.expire(self.now(), self._live_bytes):
            del self._streams[stream_id]

    @property
    def ttl_s(self) -> float:
        """Longest that a finished log is kept, in seconds."""
        return self._retention.ttl_s

    @property
    def live(self) -> list[Stream]:
        """Streams that have not ended."""
        return list(self._live.values())

    @property
    def log_bytes(self) -> int:
        """Bytes held by all logs."""
        return self._retention.total_bytes + self._live_bytes

    @property
    def is_full(self) -> bool:
        """Whether the live logs alone hold as much as all logs may."""
        return self._live_bytes >= self._retention.max_bytes

    @property
    def _live_bytes(self) -> int:
        return sum(stream.log.end for stream in self._live.values())

    def _ended(self, stream: Stream) -> None:
        del self._live[stream.id]
        self._retention.finished(stream.id, stream.log.end, self.now())
        self.expire()
