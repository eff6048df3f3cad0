"""WebTransport over HTTP/3 as a carrier's framing, for either end.

One session a connection: a browser opens another connection for another session.
"""

from collections.abc import Callable
from http import HTTPStatus

from aioquic.buffer import encode_uint_var
from aioquic.h3 import events as h3_events
from aioquic.h3.connection import FrameType, H3Connection, H3Stream
from aioquic.quic import events as quic_events
from aioquic.quic.connection import QuicConnection

from headstart.client.carrier import CarrierEvents
from headstart.client.quic_carrier import QuicCarrier
from headstart.client.quic_framing import WEBTRANSPORT_ALPN, Framing
from headstart.stages.origins import may_open

__all__ = ["PATH", "WebTransportClient", "WebTransportServer", "server_framing"]

PATH = "/v1/streams/transport"
"""What a client opens its session at."""

_WT_MAX_SESSIONS = 0x14E9CD29
"""The later drafts' setting, which Safari asks for; aioquic sends only the older one."""
_MAX_HELD_BYTES = 256 * 1024
"""Most that frames may hold that have not come whole. aioquic itself waits for any length."""
_EXCESSIVE_LOAD = 0x107
"""RFC 9114 section 8.1."""


class _H3(H3Connection):
    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic, enable_webtransport=True)

    def _get_local_settings(self) -> dict[int, int]:
        return {**super()._get_local_settings(), _WT_MAX_SESSIONS: 1}

    def open_stream(self, session_id: int, *, is_bidirectional: bool) -> int:
        """Open a stream of a session; aioquic would read the peer's part as HTTP's frames."""
        stream_id = self.create_webtransport_stream(
            session_id, is_unidirectional=not is_bidirectional
        )
        if is_bidirectional:
            stream = self._stream[stream_id] = H3Stream(stream_id)
            stream.frame_type = FrameType.WEBTRANSPORT_STREAM
            stream.session_id = session_id
        return stream_id

    def held_bytes(self, stream_id: int) -> int:
        """Bytes of frames that have not come whole: none if the stream holds none itself."""
        stream = self._stream.get(stream_id)
        if stream is None or not stream.buffer:
            return 0
        return sum(len(each.buffer) for each in self._stream.values())

    def finish_stream(self, stream_id: int) -> None:
        """Forget a stream whose end was written past HTTP/3."""
        stream = self._stream.get(stream_id)
        if stream is not None:
            stream.sending_ended = True
            if stream.is_ended():
                del self._stream[stream_id]


class _WebTransport:
    """What both ends share."""

    def __init__(self, carrier: QuicCarrier) -> None:
        self.carrier = carrier
        self.h3 = _H3(carrier.quic)
        self.session_id: int | None = None

    @property
    def overhead(self) -> int:
        return len(encode_uint_var((self.session_id or 0) // 4))

    def wrap(self, datagram: bytes) -> bytes:
        return encode_uint_var((self.session_id or 0) // 4) + datagram

    def open_stream(self, *, is_bidirectional: bool) -> int:
        assert self.session_id is not None, "no stream before the session is open"
        return self.h3.open_stream(self.session_id, is_bidirectional=is_bidirectional)

    def finished(self, stream_id: int) -> None:
        self.h3.finish_stream(stream_id)

    def take(self, event: quic_events.QuicEvent, to: CarrierEvents | None) -> None:
        for found in self.h3.handle_event(event):
            if isinstance(found, h3_events.HeadersReceived):
                self.headers(found)
            elif isinstance(found, h3_events.DataReceived) and found.stream_id == self.session_id:
                if found.stream_ended:
                    self._ended()
            elif (
                isinstance(found, h3_events.DatagramReceived)
                and found.stream_id == self.session_id
                and to is not None
            ):
                to.datagram(found.data)
            elif (
                isinstance(found, h3_events.WebTransportStreamDataReceived)
                and found.session_id == self.session_id
                and to is not None
            ):
                to.stream_data(found.stream_id, found.data, found.stream_ended)
        if (
            isinstance(event, quic_events.StreamDataReceived)
            and self.h3.held_bytes(event.stream_id) > _MAX_HELD_BYTES
        ):
            self.carrier.close(_EXCESSIVE_LOAD, "a frame is too long")
            self.carrier.end("a frame is too long")
        if isinstance(event, quic_events.StreamReset | quic_events.StopSendingReceived):
            if event.stream_id == self.session_id:
                self._ended()
            elif to is not None:
                to.stream_reset(event.stream_id)

    def headers(self, found: h3_events.HeadersReceived) -> None:
        raise NotImplementedError

    def _ended(self) -> None:
        self.carrier.end("the session was closed")
        self.carrier.close()


class WebTransportServer(_WebTransport):
    """The server's end: takes the first session at `PATH` and no other.

    Args:
        origins: Whose pages may open it, beside the server's own.
    """

    def __init__(self, carrier: QuicCarrier, origins: tuple[str, ...] = ()) -> None:
        super().__init__(carrier)
        self._origins = origins

    def headers(self, found: h3_events.HeadersReceived) -> None:
        asked = dict(found.headers)
        is_session = (
            asked.get(b":method") == b"CONNECT" and asked.get(b":protocol") == b"webtransport"
        )
        path = asked.get(b":path", b"").decode("latin-1").partition("?")[0]
        status = b"404"
        if is_session and path == PATH:
            if not self._may_open(asked):
                status = b"403"
            elif self.session_id is not None:
                status = b"429"
            else:
                self.session_id = found.stream_id
                status = b"200" if self.carrier.open(self, path) else b"503"
        is_open = status == b"200"
        answer = [(b":status", status)]
        if is_open:
            answer.append((b"sec-webtransport-http3-draft", b"draft02"))
        self.h3.send_headers(found.stream_id, answer, end_stream=not is_open)

    def _may_open(self, asked: dict[bytes, bytes]) -> bool:
        origin = asked.get(b"origin")
        host = asked.get(b":authority", b"").decode("latin-1")
        page = None if origin is None else origin.decode("latin-1")
        return may_open(page, host, self._origins, is_http=False)


class WebTransportClient(_WebTransport):
    """A native client's end.

    Args:
        carrier: Not opened yet.
        authority: The server's `host:port`.
        answered: Called with the server's status; 200 is yes.
        path: What to ask for.
        origin: The page's that asks, if one does.
    """

    def __init__(
        self,
        carrier: QuicCarrier,
        authority: str,
        answered: Callable[[int], None],
        path: str = PATH,
        origin: str | None = None,
    ) -> None:
        super().__init__(carrier)
        self._answered = answered
        self._path = path
        self.session_id = carrier.quic.get_next_available_stream_id()
        self.h3.send_headers(
            self.session_id,
            [
                (b":method", b"CONNECT"),
                (b":scheme", b"https"),
                (b":authority", authority.encode()),
                (b":path", path.encode()),
                (b":protocol", b"webtransport"),
                (b"sec-webtransport-http3-draft02", b"1"),
                *([] if origin is None else [(b"origin", origin.encode())]),
            ],
        )
        carrier.pend(self)

    def headers(self, found: h3_events.HeadersReceived) -> None:
        if found.stream_id != self.session_id:
            return
        status = int(dict(found.headers)[b":status"])
        if status == HTTPStatus.OK:
            self.carrier.open(self, self._path)
        self._answered(status)


def server_framing(
    carrier: QuicCarrier, alpn: str, origins: tuple[str, ...] = ()
) -> Framing | None:
    """Choose a framing by protocol name; None is plain QUIC."""
    return WebTransportServer(carrier, origins) if alpn == WEBTRANSPORT_ALPN else None
