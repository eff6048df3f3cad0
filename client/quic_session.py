"""A client's session with a gateway over QUIC: requests, and answers read by datagrams.

session = await connect("127.0.0.1", port, Trust(hashes))
headers = [("content-type", "application/json")]
reading = await session.ask("POST", "/v1/chat/completions", headers, body)
async for records in reading.records(): ...
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import count

from aioquic.tls import SessionTicket

from headstart.client.carrier import Carrier
from headstart.client.errors import error_of
from headstart.client.quic_connect import Trust, open_carrier
from headstart.client.reading import Reading, Receiver
from headstart.client.session_wire import (
    Answer,
    Drop,
    End,
    Hello,
    MessageReader,
    Request,
    encode_message,
)
from headstart.stages.datagram_events import SnapshotReceived
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.errors import ProtocolViolation
from headstart.stages.varint import pull_varint
from headstart.stages.wire import Snapshot, decode_datagram

__all__ = ["QuicSession", "connect"]

Headers = Iterable[tuple[str, str]]

_REMEMBERED = 32


class QuicSession:
    """One session. `CarrierEvents` of its carrier; give it one with `began`.

    Args:
        receiver: Of the server's `quic.scheme`.
    """

    def __init__(self, receiver: Receiver = DatagramReceiver) -> None:
        self._receiver = receiver
        self.closed_for: str | None = None
        """Why the session ended; None while it is open."""
        self.is_heard = False
        """Whether something has come by it, since it was opened or this was taken back."""
        self._heard = asyncio.Event()
        self.greeting: Hello | None = None
        """The server's, with its limits, once it is here."""
        self._carrier: Carrier | None = None
        self._numbers = count(1)
        self._readings: dict[int, Reading] = {}
        self._asked: dict[int, _Exchange] = {}
        """Our own streams that are waiting for an answer."""
        self._unwanted: dict[int, Request] = {}
        """Requests on them that nobody waits for, whose answers are to be stopped."""
        self._pushed: dict[int, _Pushed] = {}
        """The server's streams."""
        self._control = -1
        self._control_in = MessageReader()
        self._closed = asyncio.Event()

    def began(self, carrier: Carrier) -> None:
        """Say hello on a fresh carrier."""
        self._carrier = carrier
        self._control = carrier.open_stream(is_bidirectional=True)
        carrier.write(self._control, encode_message(Hello()))

    @property
    def carrier(self) -> Carrier:
        """What moves the bytes."""
        assert self._carrier is not None, "a session begins with its carrier"
        return self._carrier

    @property
    def is_reading(self) -> bool:
        """Whether answers are read by it."""
        return any(not reading.is_over for reading in self._readings.values())

    async def ask(
        self, method: str, path: str, headers: Headers = (), body: bytes = b"", log: bytes = b""
    ) -> Reading:
        """Send a request and return its answer once that begins, if need be without its head.

        A token log is read as it grows; any other answer is in `body` once `finished`. Who is
        cancelled meanwhile has the answer stopped, unless it was only to be read on: as soon as
        its head says which it is, if the session is open then.

        Args:
            log: Whole records from an earlier session; `path` says the same as a cursor.

        Raises:
            ConnectionError: The session ended first.
        """
        number = next(self._numbers)
        self._forget_oldest()
        reading = Reading(number, log, self._send, self._receiver)
        self._readings[number] = reading
        request = Request(method, path, tuple(headers), number)
        stream_id = self._write(request, reading, body)
        try:
            await reading.begun()
        except asyncio.CancelledError:
            if method == "GET":
                self.carrier.reset_stream(stream_id)
            elif stream_id in self._asked:
                self._unwanted[stream_id] = request
            else:
                self._stop_unwanted(request, reading)
            self.drop(reading)
            raise
        return reading

    async def resume(self, stream_id: str, headers: Headers = (), log: bytes = b"") -> Reading:
        """Read an answer on, after the records that are here already."""
        path = f"/v1/streams/{stream_id}?after={len(log)}"
        return await self.ask("GET", path, headers, log=log)

    async def stop(self, stream_id: str, headers: Headers = ()) -> Answer:
        """Have an answer stopped, whoever reads it, and however many answers are being read.

        Raises:
            ConnectionError: The session ended first.
            HeadstartError: The gateway refuses.
        """
        # Without a number it takes no place among the answers that the session reads.
        reading = Reading(0, b"", self._send)
        request = Request("DELETE", f"/v1/streams/{stream_id}", tuple(headers))
        asked_on = self._write(request, reading)
        try:
            await reading.begun()
            await reading.finished()
        except asyncio.CancelledError:
            self.carrier.reset_stream(asked_on)
            raise
        answer = reading.answer
        if reading.error is not None or answer is None:
            raise ConnectionError((reading.error or {}).get("message", "no answer came"))
        if not 200 <= answer.status < 300:
            raise error_of(answer.status, reading.body)
        return answer

    def drop(self, reading: Reading) -> None:
        """Read an answer no longer; it goes on."""
        if reading.is_whole:
            return  # the server may have to hear of it once more
        self._readings.pop(reading.number, None)
        reading.close(None)
        self.carrier.write(self._control, encode_message(Drop(reading.number)))

    def close(self) -> None:
        """End the session; answers go on without a reader."""
        self.carrier.close()
        self.closed("closed")

    async def heard(self) -> None:
        """Wait until something comes by it, or it ends."""
        self._heard.clear()
        await self._heard.wait()

    async def wait_closed(self) -> None:
        """Wait until the session has ended."""
        await self._closed.wait()

    # As `CarrierEvents`.

    def datagram(self, data: bytes) -> None:
        self._is_heard()
        try:
            snapshot = decode_datagram(data)
        except ProtocolViolation:
            return
        if isinstance(snapshot, Snapshot):
            reading = self._readings.get(snapshot.stream)
            if reading is not None:
                reading.feed(SnapshotReceived(snapshot))

    def stream_data(self, stream_id: int, data: bytes, is_end: bool) -> None:
        self._is_heard()
        try:
            if stream_id == self._control:
                self._control_in.feed(data)
                self._follow_control()
            elif (exchange := self._asked.get(stream_id)) is not None:
                exchange.feed(data, is_end)
                if exchange.reading.answer is not None and stream_id in self._unwanted:
                    self._stop_unwanted(self._unwanted.pop(stream_id), exchange.reading)
                if is_end:
                    del self._asked[stream_id]
            else:
                pushed = self._pushed.setdefault(stream_id, _Pushed(self._readings))
                pushed.feed(data)
                if is_end:
                    del self._pushed[stream_id]
        except ProtocolViolation as error:
            self.carrier.close(1, error.message)
            self.closed(error.message)

    def stream_reset(self, stream_id: int) -> None:
        self._pushed.pop(stream_id, None)
        self._unwanted.pop(stream_id, None)
        if (exchange := self._asked.pop(stream_id, None)) is not None:
            exchange.reading.close(_connection_error("the server gave up"))

    def ready(self) -> None:
        """Acknowledgements that waited leave by themselves."""

    def progressed(self) -> None:
        """What is written has no need to wait."""

    def path_changed(self) -> None:
        """A reader's machine measures no path."""

    def established(self) -> None:
        """Requests are sent from the start: the server knows which of them to hold."""

    def broken(self, reason: str) -> None:
        """The server sees the same, and falls back to streams."""

    def closed(self, reason: str) -> None:
        if self.closed_for is not None:
            return
        self.closed_for = reason
        for reading in (*self._readings.values(), *(one.reading for one in self._asked.values())):
            reading.close(_connection_error(reason))
        self._closed.set()
        self._heard.set()

    def _is_heard(self) -> None:
        self.is_heard = True
        self._heard.set()

    def _write(self, request: Request, reading: Reading, body: bytes = b"") -> int:
        """Send a request on a stream of its own, and return the stream's number."""
        stream_id = self.carrier.open_stream(is_bidirectional=True)
        self._asked[stream_id] = _Exchange(reading, can_carry=request.number is not None)
        self.carrier.write(stream_id, encode_message(request) + body, is_end=True)
        if self.closed_for is not None:
            reading.close(_connection_error(self.closed_for))
        return stream_id

    def _stop_unwanted(self, asked: Request, reading: Reading) -> None:
        if reading.stream_id is not None:
            path = f"/v1/streams/{reading.stream_id}"
            self._write(Request("DELETE", path, asked.headers), Reading(0, b"", self._send))

    def _forget_oldest(self) -> None:
        """Finished ones are kept for a while, to say again that they are."""
        finished = [number for number, reading in self._readings.items() if reading.is_over]
        for number in finished[:-_REMEMBERED]:
            del self._readings[number]

    def _send(self, number: int, data: bytes) -> None:
        is_heeded = self.greeting is None or self.greeting.has_datagrams
        if self.closed_for is None and is_heeded:
            self.carrier.send_latest(number, data)

    def _follow_control(self) -> None:
        while (message := self._control_in.next()) is not None:
            if isinstance(message, Hello):
                self.greeting = message
            elif isinstance(message, End):
                reading = self._readings.get(message.number)
                if reading is not None:
                    reading.ended(message)
            else:
                raise ProtocolViolation("a server's control stream says hello, then end")


class _Exchange:
    """Reads an answer from a request's stream."""

    def __init__(self, reading: Reading, *, can_carry: bool) -> None:
        self.reading = reading
        self._can_carry = can_carry
        self._messages = MessageReader()

    def feed(self, data: bytes, is_end: bool) -> None:
        reading = self.reading
        if reading.answer is None:
            self._messages.feed(data)
            message = self._messages.next()
            if message is None and is_end:
                raise ProtocolViolation("an answer's stream ended before its head")
            if message is None:
                return
            if not isinstance(message, Answer):
                raise ProtocolViolation("an answer begins with its head")
            if message.is_carried and not self._can_carry:
                raise ProtocolViolation("an answer is carried that was asked for as a body")
            data = self._messages.rest()
            reading.began(message)
        reading.take_body(data)
        if is_end and reading.answer is not None and not reading.answer.is_carried:
            reading.close(None)


class _Pushed:
    """Reads a stretch of a log from a stream of the server's."""

    def __init__(self, readings: dict[int, Reading]) -> None:
        self._readings = readings
        self._head = bytearray()
        self._number: int | None = None
        self._cursor: int | None = None

    def feed(self, data: bytes) -> None:
        if self._cursor is None:
            self._head += data
            number = pull_varint(self._head)
            start = None if number is None else pull_varint(self._head, number[1])
            if number is None or start is None:
                return
            self._number, self._cursor = number[0], start[0]
            data = bytes(self._head[start[1] :])
        if data:
            reading = self._readings.get(self._number or 0)
            if reading is not None:
                reading.caught_up(self._cursor, data)
            self._cursor += len(data)


def _connection_error(reason: str) -> dict[str, str]:
    return {"message": reason, "type": "ConnectionError"}


async def connect(
    host: str,
    port: int,
    trust: Trust,
    *,
    is_webtransport: bool = False,
    has_datagrams: bool = True,
    timeout_s: float = 5.0,
    ticket: SessionTicket | None = None,
    on_ticket: Callable[[SessionTicket], None] | None = None,
    receiver: Receiver = DatagramReceiver,
) -> QuicSession:
    """Open a session; see `open_carrier`.

    Raises:
        ConnectionError: Nobody answers in time, or not with a trusted certificate.
    """
    session = QuicSession(receiver)
    carrier = await open_carrier(
        host,
        port,
        lambda carrier, path: session,
        trust,
        is_webtransport=is_webtransport,
        has_datagrams=has_datagrams,
        timeout_s=timeout_s,
        ticket=ticket,
        on_ticket=on_ticket,
    )
    session.began(carrier)
    return session
