"""One client's session: its control stream, its requests, and the logs it reads.

What a client sends is taken for what it is: something malformed closes the session, something
merely late or out of bounds is ignored and counted.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from headstart.client.carrier import Carrier, CarrierStats
from headstart.client.session_wire import (
    VERSION,
    WHY_HEADER,
    Drop,
    End,
    Hello,
    MessageReader,
    Request,
    Why,
    encode_message,
)
from headstart.cluster.stream import Stream
from headstart.cluster.tasks import Tasks
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import AckOutcome, CarrierKind, Fallback, ResumeOutcome, Way
from headstart.monitoring.transport_meter import TransportMeter
from headstart.pipeline.errors import error_body
from headstart.pipeline.log_reader import LogReader
from headstart.pipeline.quic_exchange import Exchange, is_idempotent, is_stop
from headstart.pipeline.request_pace import JoinedPace, RequestPace
from headstart.stages.errors import BadRequest, EngineUnavailable, HeadstartError, ProtocolViolation
from headstart.stages.wire import Ack, decode_datagram

__all__ = ["CLOSE_PROTOCOL", "CLOSE_VERSION", "Session"]

CLOSE_PROTOCOL = 0x1
CLOSE_VERSION = 0x2
"""Codes that a session is closed with."""

_MAX_OPEN = 64
"""Most streams of a client's at once, whatever they say."""
_MORE_FOR_STOPS = 8
"""Past those, for what makes room: a client that has too many answers must be able to stop one."""
_MAX_BODIES = 4
"""Most bytes of requests at once, in bodies of the longest kind."""
_AHEAD_BYTES = 256 * 1024
"""Most of an answer's body that is written and not confirmed."""


class Session:
    """One session. `CarrierEvents` of its carrier.

    Args:
        carrier: The connection.
        kind: What it speaks.
        app: The gateway's ASGI app.
        settings: Limits.
        max_body_bytes: Longest request body.
        meter: Told of everything.
        tasks: Owns what runs for the session.
        left: Called once the session is over.
    """

    def __init__(
        self,
        carrier: Carrier,
        kind: CarrierKind,
        app: Any,
        settings: QuicSettings,
        max_body_bytes: int,
        meter: TransportMeter,
        tasks: Tasks,
        left: Callable[["Session"], None] = lambda session: None,
    ) -> None:
        self._carrier = carrier
        self._kind = kind
        self._app = app
        self._settings = settings
        self._max_body_bytes = max_body_bytes
        self._meter = meter
        self._tasks = tasks
        self._left = left
        self._control: int | None = None
        self._control_in = MessageReader()
        self._unread: dict[int, MessageReader] = {}
        """Streams that have not said yet what they are."""
        self._exchanges: dict[int, Exchange] = {}
        self._held: dict[int, Exchange] = {}
        """Those that wait for the end of the handshake, since they might be a replay."""
        self._running: dict[int, asyncio.Task[None]] = {}
        self._answered: set[int] = set()
        """Streams that go on although their answer is written, or that get none."""
        self._readers: dict[int, LogReader] = {}
        self._asked: set[int] = set()
        """Numbers whose requests are being answered."""
        self._untaken: dict[int, tuple[int, float]] = {}
        """Bytes of answers' streams that wait for the client, and since when they are as many."""
        self._noted = CarrierStats()
        """The carrier's account, as the meter was told last."""
        self._unsaid: list[End] = []
        """For a client that has not opened its control stream yet."""
        self._room = asyncio.Event()
        self._is_over = False
        meter.connected(kind)

    @property
    def carrier(self) -> Carrier:
        """What it came by."""
        return self._carrier

    @property
    def is_greeted(self) -> bool:
        """Whether the client has opened its control stream."""
        return self._control is not None

    @property
    def is_busy(self) -> bool:
        """Whether the client asks for something or reads an answer."""
        return bool(self._exchanges or self._running or self._readers)

    def expire(self, now: float, limit_s: float) -> None:
        """Give up on readers that have taken nothing of what waits for them for so long."""
        self._note_carrier()
        for reader in list(self._readers.values()):
            reader.expire(now, limit_s)
        self._untaken = {
            stream_id: (backlog, since if known == backlog else now)
            for stream_id in self._exchanges
            if (backlog := self._carrier.backlog(stream_id))
            for known, since in [self._untaken.get(stream_id, (None, now))]
        }
        for stream_id, (_, since) in self._untaken.items():
            if now > since + limit_s:
                self._carrier.reset_stream(stream_id)
                self.stream_reset(stream_id)

    # As `CarrierEvents`.

    def datagram(self, data: bytes) -> None:
        try:
            ack = decode_datagram(data)
        except ProtocolViolation:
            self._meter.acked(AckOutcome.MALFORMED)
            return
        if not isinstance(ack, Ack):
            self._meter.acked(AckOutcome.MALFORMED)
        elif (reader := self._readers.get(ack.stream)) is not None:
            self._meter.acked(reader.acked(ack))

    def stream_data(self, stream_id: int, data: bytes, is_end: bool) -> None:
        if self._is_over:
            return
        try:
            if stream_id == self._control:
                self._control_in.feed(data)
                self._follow_control()
            elif (exchange := self._exchanges.get(stream_id)) is not None:
                self._feed(stream_id, exchange, data, is_end)
            elif stream_id in self._answered:
                if is_end:
                    self._answered.discard(stream_id)
            elif self._num_open >= _MAX_OPEN + _MORE_FOR_STOPS:
                self._refuse_stream(stream_id, is_end)
            else:
                self._begin(stream_id, data, is_end)
        except ProtocolViolation as error:
            self._close(CLOSE_PROTOCOL, error.message)

    def stream_reset(self, stream_id: int) -> None:
        self._unread.pop(stream_id, None)
        self._held.pop(stream_id, None)
        self._answered.discard(stream_id)
        if (exchange := self._exchanges.pop(stream_id, None)) is not None:
            exchange.gone()
        for reader in list(self._readers.values()):
            reader.stopped(stream_id)
        self._room.set()

    def ready(self) -> None:
        for reader in list(self._readers.values()):
            reader.ready()

    def progressed(self) -> None:
        self._room.set()
        for reader in list(self._readers.values()):
            reader.pump()

    def path_changed(self) -> None:
        for reader in list(self._readers.values()):
            reader.path_changed()

    def established(self) -> None:
        held, self._held = self._held, {}
        for stream_id, exchange in held.items():
            self._start(stream_id, exchange)

    def broken(self, reason: str) -> None:
        for reader in list(self._readers.values()):
            reader.broken(Fallback(reason))

    def closed(self, reason: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        for exchange in self._exchanges.values():
            exchange.gone()
        for task in self._running.values():
            task.cancel()
        for reader in list(self._readers.values()):
            reader.close()
        self._note_carrier()
        self._meter.disconnected(self._kind)
        self._left(self)

    def _note_carrier(self) -> None:
        """Tell the meter what the carrier has done since it was asked last."""
        before, self._noted = self._noted, replace(self._carrier.stats())
        self._meter.carried(
            replaced=self._noted.replaced - before.replaced,
            oversize=self._noted.oversize - before.oversize,
            confirmed=self._noted.packets_confirmed - before.packets_confirmed,
            lost=self._noted.packets_lost - before.packets_lost,
        )

    # What its streams say.

    def _begin(self, stream_id: int, data: bytes, is_end: bool) -> None:
        reader = self._unread.setdefault(stream_id, MessageReader())
        reader.feed(data)
        message = reader.next()
        if message is None:
            if is_end:
                raise ProtocolViolation("a stream ended before it said what it is")
            return
        del self._unread[stream_id]
        if isinstance(message, Request) and self._num_open >= _MAX_OPEN and not is_stop(message):
            self._refuse_stream(stream_id, is_end)
        elif isinstance(message, Hello):
            self._greet(stream_id, message, reader)
        elif isinstance(message, Request):
            self._ask(stream_id, message, reader.rest(), is_end)
        else:
            raise ProtocolViolation("a client's stream begins with hello or request")

    @property
    def _num_open(self) -> int:
        """Streams that take memory; a request may run on for a while after its stream is reset."""
        asking = self._exchanges.keys() | self._running.keys()
        return len(self._unread) + len(asking) + len(self._answered - asking)

    def _greet(self, stream_id: int, hello: Hello, reader: MessageReader) -> None:
        if hello.version != VERSION:
            self._close(CLOSE_VERSION, f"session version {VERSION} is spoken here")
            return
        if self._control is not None:
            raise ProtocolViolation("a session has one control stream")
        self._control, self._control_in = stream_id, reader
        greeting = Hello(
            VERSION,
            self._settings.max_streams,
            self._max_body_bytes,
            has_datagrams=self._settings.scheme != "stream",
        )
        self._carrier.write(stream_id, encode_message(greeting))
        for end in self._unsaid:
            self._say(end)
        self._unsaid.clear()
        self._follow_control()

    def _follow_control(self) -> None:
        while (message := self._control_in.next()) is not None:
            if not isinstance(message, Drop):
                raise ProtocolViolation("a client's control stream says hello, then drop")
            if (reader := self._readers.get(message.number)) is not None:
                reader.close()

    def _ask(self, stream_id: int, request: Request, body: bytes, is_end: bool) -> None:
        exchange = Exchange(
            request,
            self._max_body_bytes,
            partial(self._write, stream_id),
            partial(self._carry, request),
        )
        self._exchanges[stream_id] = exchange
        if not self._feed(stream_id, exchange, body, is_end):
            return
        if self._carrier.is_established or is_idempotent(request):
            self._start(stream_id, exchange)
        else:
            self._held[stream_id] = exchange

    def _feed(self, stream_id: int, exchange: Exchange, data: bytes, is_end: bool) -> bool:
        """Return whether there is room for it; if not, its request is over."""
        exchange.body(data, is_end)
        num_bytes = sum(one.num_bytes for one in self._exchanges.values())
        if num_bytes <= _MAX_BODIES * self._max_body_bytes:
            return True
        self.stream_reset(stream_id)
        self._refuse_stream(stream_id, is_end)
        return False

    def _refuse_stream(self, stream_id: int, is_end: bool) -> None:
        self._carrier.reset_stream(stream_id)
        if not is_end:
            self._answered.add(stream_id)  # what is under way already is not looked at

    def _start(self, stream_id: int, exchange: Exchange) -> None:
        self._running[stream_id] = self._tasks.start(
            self._answer(stream_id, exchange), name="quic request"
        )

    async def _answer(self, stream_id: int, exchange: Exchange) -> None:
        number = exchange.request.number
        try:
            refusal = self._refusal(number)
            if refusal is not None:
                await exchange.refuse(refusal.http_status, error_body(refusal))
                return
            if number is not None:
                self._asked.add(number)
            await exchange.run(self._app)
        except Exception:
            # The app has answered what can be answered; what is left is a fault of ours.
            self._carrier.reset_stream(stream_id)
            raise
        finally:
            if number is not None:
                self._asked.discard(number)
                if is_idempotent(exchange.request):
                    self._meter.resumed(Way.QUIC, _outcome(exchange))
            if self._exchanges.pop(stream_id, None) is not None and not exchange.is_complete:
                self._answered.add(stream_id)
            self._running.pop(stream_id, None)

    def _refusal(self, number: int | None) -> HeadstartError | None:
        if number is None:
            return None
        if number < 0 or number >= 1 << 32:
            return BadRequest("a stream's number is below 2**32", param="number")
        if number in self._readers or number in self._asked:
            return BadRequest(f"number {number} is in use", param="number")
        if len(self._readers) + len(self._asked) >= self._settings.max_streams:
            return EngineUnavailable(
                f"this connection reads {self._settings.max_streams} answers already"
            )
        return None

    def _carry(
        self, request: Request, stream: Stream, after: int, pace: RequestPace | JoinedPace | None
    ) -> None:
        assert request.number is not None
        reader = LogReader(
            request.number,
            stream,
            after,
            self._carrier,
            self._settings,
            self._meter,
            self._say,
            self._forget,
            pace,
        )
        if self._is_over:
            reader.close()
            return
        self._readers[request.number] = reader
        try:
            reader.start()
        except Exception:
            reader.close()
            raise

    def _forget(self, number: int) -> None:
        self._readers.pop(number, None)

    def _say(self, end: End) -> None:
        if self._control is not None:
            self._carrier.write(self._control, encode_message(end))
        elif len(self._unsaid) < self._settings.max_streams:
            self._unsaid.append(end)
        elif not self._is_over:
            self._close(CLOSE_PROTOCOL, "answers end, and nobody has said hello")

    async def _write(self, stream_id: int, data: bytes, is_end: bool) -> None:
        while data and self._waits(stream_id):
            self._room.clear()
            await self._room.wait()
        self._carrier.write(stream_id, data, is_end=is_end)

    def _waits(self, stream_id: int) -> bool:
        is_wanted = not self._is_over and stream_id in self._exchanges
        return is_wanted and self._carrier.backlog(stream_id) > _AHEAD_BYTES

    def _close(self, code: int, reason: str) -> None:
        self._carrier.close(code, reason)
        self.closed(reason)


def _outcome(exchange: Exchange) -> ResumeOutcome:
    if not exchange.is_carried:
        return ResumeOutcome.REFUSED
    said = (value for name, value in exchange.request.headers if name.lower() == WHY_HEADER)
    return _OUTCOMES.get(next(said, ""), ResumeOutcome.RESUMED)


_OUTCOMES: dict[str, ResumeOutcome] = {
    Why.JOIN: ResumeOutcome.JOINED,
    Why.CLIMB: ResumeOutcome.CLIMBED,
}
