"""The gateway's end of the data plane: a replica's engine, seen from another process."""

import asyncio
import time
from collections.abc import Callable

import structlog
import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from headstart.cluster import messages, secure_socket
from headstart.cluster.engine import Engine, EngineInfo, EngineLoad, EngineRequest, Warmth
from headstart.cluster.stream import Stream, StreamTable
from headstart.cluster.tasks import Tasks
from headstart.configs.settings import DataPlaneSettings
from headstart.stages.answer_speed import AnswerSpeed
from headstart.stages.errors import (
    EngineLost,
    HeadstartError,
    PayloadTooLarge,
    ProtocolViolation,
)
from headstart.stages.failure import Failure
from headstart.stages.mirror import Part, StreamEnd
from headstart.stages.speculation_counts import SpeculationCounts
from headstart.stages.stage_clock import ClockOffset, Mark

__all__ = ["RemoteEngine"]

_log = structlog.get_logger(__name__)

_ORPHANED = ("EngineLost", "NotFound", "BadRequest")
"""Ends of a detached stream that say: this replica does not make it, or not any more."""


class RemoteEngine(Engine):
    """One replica, over one multiplexed connection.

    Logs are mirrored byte for byte into `streams`; marks arrive moved onto the local clock. When
    the link is lost, every stream that was not complete ends with a retryable failure, unless
    somebody adopts it.

    Args:
        address: ZeroMQ endpoint that the replica published.
        streams: Where mirrored answers are kept.
        settings: Secret, window and patience.
        on_lost: Called once if the link is lost before `close`.
        on_orphans: Called with detached streams that this replica makes no more; returns those
            that shall not end yet.
    """

    def __init__(
        self,
        address: str,
        streams: StreamTable,
        settings: DataPlaneSettings,
        on_lost: Callable[[], None] = lambda: None,
        on_orphans: Callable[[list[Stream]], list[Stream]] = lambda _: [],
    ) -> None:
        self.address = address
        self.clock = ClockOffset()
        """Offset of the replica's monotonic clock."""
        self.speed = AnswerSpeed()
        """Of its answers, as they arrive here."""
        self._streams = streams
        self._settings = settings
        self._on_lost = on_lost
        self._on_orphans = on_orphans
        self._tasks = Tasks()
        self._opened: asyncio.Future[EngineInfo] | None = None
        self._kept: list[messages.Kept] = []
        self._load = EngineLoad()
        self._speculation: SpeculationCounts | None = None
        self._told = SpeculationCounts()
        self._numbers: dict[int, Stream] = {}
        self._grown: dict[int, float] = {}
        """When each of them last gained tokens."""
        self._is_idle = asyncio.Event()
        """Set while there are none of them."""
        self._calls: dict[int, asyncio.Future[list[int]]] = {}
        self._last_number = 0
        self._last_heard = 0.0
        self._received_bytes = 0
        self._acknowledged_bytes = 0
        self._is_lost = False
        self._was_up = False

    @property
    def is_up(self) -> bool:
        """Whether the replica has answered and the link holds."""
        opened = self._opened
        return opened is not None and opened.done() and not self._is_lost

    @property
    def info(self) -> EngineInfo:
        """What the replica said of its engine; only while the link is up."""
        assert self._opened is not None
        return self._opened.result()

    @property
    def was_up(self) -> bool:
        """Whether the replica had answered before the link was lost."""
        return self._was_up

    @property
    def num_live_streams(self) -> int:
        """Answers in the making on this link."""
        return len(self._numbers)

    def take_kept(self) -> list[messages.Kept]:
        """Hand over the detached answers that the replica had when the link was opened.

        Once: they hold their requests.
        """
        kept, self._kept = self._kept, []
        return kept

    async def idle(self) -> None:
        """Wait until no answer is in the making."""
        while self._numbers:
            await self._is_idle.wait()

    async def start(self) -> EngineInfo:
        """Open the link.

        Raises:
            EngineLost: The replica does not answer in time.
        """
        self._opened = asyncio.get_running_loop().create_future()
        self._context = zmq.asyncio.Context()
        self._socket = secure_socket.connect(
            self._context, self._settings.secret_value, self.address
        )
        self._last_heard = time.monotonic()
        self._tasks.start(self._monitor(), name="data plane monitor")
        self._tasks.start(self._receive(), name="data plane receive")
        self._send(
            messages.Open(messages.PROTOCOL_VERSION, self._settings.window_bytes, time.monotonic())
        )
        try:
            async with asyncio.timeout(self._settings.silence_limit_s):
                info = await self._opened
        except TimeoutError:
            self._lose("no answer")
            raise EngineLost(f"the replica at {self.address} does not answer") from None
        self._tasks.start(self._ping(), name="data plane ping")
        return info

    async def close(self, why: str = "the link to the replica was closed") -> None:
        """Close the link; readers of unfinished answers are told `why`."""
        if self._opened is not None:
            self._send(messages.Bye("the gateway has closed the link"))
        self._is_lost = True
        self._fail_streams(why)
        await self._tasks.close()
        if self._opened is not None:
            self._opened.cancel()
            self._opened = None
            # Closes the monitor's socket too; a plain `term` would wait for it for ever.
            self._context.destroy(linger=0)

    def load(self) -> EngineLoad:
        return self._load

    def speculation(self) -> SpeculationCounts | None:
        return self._speculation

    def new_speculation(self) -> SpeculationCounts:
        """Return what speculation has done since the last call."""
        before, self._told = self._told, self._speculation or self._told
        return self._told.since(before)

    async def render(self, request: EngineRequest) -> list[int]:
        return await self._call(lambda number: messages.Render(number, request))

    async def warm(
        self, tokens: list[int], *, cache_salt: str | None = None, model: str | None = None
    ) -> Warmth:
        num_cached, spent_us = await self._call(
            lambda number: messages.Warm(number, tokens, cache_salt, model)
        )
        return Warmth(num_cached, spent_us / 1e6)

    def serve(
        self,
        request: EngineRequest,
        *,
        logged: bytes = b"",
        is_detached: bool = False,
    ) -> Stream:
        stream = self._streams.create(request.stream_id)
        if logged:
            stream.extend(logged)
        if is_detached:
            self._streams.detach(stream, request)
        self._submit(stream, request)
        return stream

    def go_on(self, stream: Stream) -> None:
        """Have the replica go on with a detached stream that another one had begun."""
        assert stream.request is not None
        self._submit(stream, stream.request)

    def take_up(self, stream: Stream) -> None:
        """Read on in a detached stream that the replica has, from where this gateway's log ends."""
        self._follow(stream, lambda number: messages.Attach(number, stream.id, stream.log.end))

    def _submit(self, stream: Stream, request: EngineRequest) -> None:
        logged = stream.log.read(0)
        self._follow(
            stream,
            lambda number: messages.Submit(number, request, stream.is_detached, logged),
        )

    def attach(self, stream_id: str, after: int) -> Stream:
        """Mirror a stream that this gateway may never have seen.

        Raises:
            BadRequest: `after` is not a cursor of a stream that this gateway has.
        """
        if stream_id in self._streams:
            stream = self._streams.get(stream_id)
            stream.log.check_cursor(after)
            return stream
        stream = self._streams.create(stream_id)
        # A mirror is a whole log: readers choose their cursor from what is here.
        self._follow(stream, lambda number: messages.Attach(number, stream_id, 0))
        return stream

    async def abort(self, stream_id: str) -> None:
        self._send(messages.Abort(stream_id))

    def _follow(self, stream: Stream, message: Callable[[int], messages.ToReplica]) -> None:
        """Ask for a stream under a number of its own."""
        if self._is_lost:
            self._part_with([stream], EngineLost("the replica is gone"))
            return
        self._last_number += 1
        self._numbers[self._last_number] = stream
        self._is_idle.clear()
        self._send(message(self._last_number))

    def _send(self, message: messages.ToReplica) -> None:
        if self._is_lost:
            return
        secure_socket.post(self._socket, messages.encode(message))

    async def _call(self, message: Callable[[int], messages.ToReplica]) -> list[int]:
        if self._is_lost:
            raise EngineLost("the replica is gone")
        self._last_number += 1
        number = self._last_number
        self._calls[number] = asyncio.get_running_loop().create_future()
        self._send(message(number))
        try:
            return await self._calls[number]
        except asyncio.CancelledError:
            self._send(messages.Cancel(number))
            raise
        finally:
            del self._calls[number]

    async def _receive(self) -> None:
        while True:
            data = await self._socket.recv()
            self._last_heard = time.monotonic()
            try:
                self._handle(messages.decode_to_gateway(data))
            except ProtocolViolation as error:
                _log.error("replica_broke_protocol", error=error.message)
                self._lose("protocol violation")
                return

    def _handle(self, message: messages.ToGateway) -> None:
        match message:
            case messages.Step():
                self._load = message.load
                self._time(message.parts)
                for part in message.parts:
                    self._take(part)
                if self._received_bytes - self._acknowledged_bytes > self._ack_after_bytes:
                    self._acknowledge()
            case messages.Pong():
                self._load = message.load
                self._speculation = message.speculation
                self.clock.add(message.sent, message.received, message.replied, self._last_heard)
            case messages.Reply():
                self._reply(message)
            case messages.Opened():
                self._open(message)
            case messages.Bye():
                self._lose(message.reason)

    @property
    def _ack_after_bytes(self) -> int:
        return self._settings.window_bytes // 4

    def _acknowledge(self) -> None:
        self._acknowledged_bytes = self._received_bytes
        self._send(messages.Acknowledge(self._received_bytes))

    def _open(self, message: messages.Opened) -> None:
        assert self._opened is not None
        if message.version != messages.PROTOCOL_VERSION:
            raise ProtocolViolation(f"replica speaks version {message.version} of the data plane")
        self.clock.add(message.sent, message.received, message.replied, self._last_heard)
        if not self._opened.done():
            self._kept = message.kept
            self._was_up = True
            self._opened.set_result(
                EngineInfo(
                    message.model, message.max_model_len, message.block_size, message.speculation
                )
            )

    def _time(self, parts: list[Part]) -> None:
        """Learn from a step, before it is taken, how fast the answers grow."""
        now, gained, seconds = time.monotonic(), 0, 0.0
        for part in parts:
            stream = self._numbers.get(part.stream)
            if stream is None or (more := part.tokens[1] - stream.tokens[1]) <= 0:
                continue
            before = self._grown.get(part.stream)
            if part.end is not None and before is None:  # in one piece
                before = self._first_token_at(stream, part)
            if before is not None:  # the first tokens tell of the prompt
                gained += more
                seconds += now - before
            self._grown[part.stream] = now
        if gained:
            self.speed.observe(self._load.running, gained, seconds, now)
        for part in parts:
            if part.end is not None:
                self._grown.pop(part.stream, None)

    def _first_token_at(self, stream: Stream, part: Part) -> float | None:
        at = dict(part.marks).get(Mark.FIRST_TOKEN)
        return stream.clock.get(Mark.FIRST_TOKEN) if at is None else self.clock.to_local(at)

    def _take(self, part: Part) -> None:
        self._received_bytes += len(part.data)
        stream = self._numbers.get(part.stream)
        if stream is None:
            return
        for mark, at in part.marks:
            stream.mark(mark, self.clock.to_local(at))
        stream.clock_uncertainty_s = self.clock.uncertainty_s
        stream.tokens = max(stream.tokens, part.tokens)  # less where it is made again
        if part.data:
            if part.offset != stream.log.end:
                raise ProtocolViolation(f"part at {part.offset}, log at {stream.log.end}")
            try:
                stream.extend(part.data)
            except PayloadTooLarge as error:  # a replica with other settings: one answer's fault
                self._send(messages.Abort(stream.id))
                part = Part(part.stream, part.offset, b"", (), StreamEnd(failure=Failure.of(error)))
        if part.end is not None:
            del self._numbers[part.stream]
            if not self._numbers:
                self._is_idle.set()
            self._ended(stream, part.end)

    def _ended(self, stream: Stream, end: StreamEnd) -> None:
        failure = end.failure
        if stream.is_detached and failure is not None and failure.error in _ORPHANED:
            self._part_with([stream], failure.to_error())
            return
        if not stream.is_detached:
            # Of a detached answer the replica keeps its copy: this gateway may die too.
            self._send(messages.Confirm(stream.id))
        stream.finish(end)

    def _reply(self, message: messages.Reply) -> None:
        future = self._calls.get(message.call)
        if future is None or future.done():
            return
        if (failure := message.failure) is None:
            future.set_result(message.tokens)
        else:
            future.set_exception(failure.to_error())

    async def _ping(self) -> None:
        while True:
            self._send(messages.Ping(time.monotonic()))
            if self._received_bytes > self._acknowledged_bytes:
                self._acknowledge()
            slept_at = time.monotonic()
            await asyncio.sleep(self._settings.ping_interval_s)
            now = time.monotonic()
            if now - slept_at > self._settings.silence_limit_s:
                self._last_heard = now  # it was this process that stood still
            elif now - self._last_heard > self._settings.silence_limit_s:
                self._lose("silence")
                return

    async def _monitor(self) -> None:
        """Notice a dead replica at once: its kernel closes the connection."""
        events = self._socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        )
        await recv_monitor_message(events)
        self._lose("disconnected")

    def _lose(self, reason: str) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        _log.warning("replica_lost", address=self.address, reason=reason)
        self._fail_streams("the replica was lost while it answered")
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(EngineLost(f"{self.address} refused the link"))
        self._on_lost()

    def _part_with(self, streams: list[Stream], error: HeadstartError) -> None:
        """End streams with the reason, but for those that somebody adopts."""
        adopted = self._on_orphans([stream for stream in streams if stream.is_detached])
        for stream in streams:
            if stream not in adopted:
                stream.finish(StreamEnd(failure=Failure.of(error)))

    def _fail_streams(self, message: str) -> None:
        streams = list(self._numbers.values())
        self._numbers.clear()
        self._is_idle.set()
        self._part_with(streams, EngineLost(message))
        for call in self._calls.values():
            if not call.done():
                call.set_exception(EngineLost(message))
