"""How a session's datagrams and streams are told from whatever else a QUIC connection carries.

Plain QUIC, whose connection is one session, is here; WebTransport is in `webtransport`.
"""

from typing import Protocol

from aioquic.quic import events as quic_events
from aioquic.quic.connection import QuicConnection

from headstart.client.carrier import CarrierEvents

__all__ = ["ALPN", "WEBTRANSPORT_ALPN", "Framing", "PlainFraming"]

ALPN = "headstart/1"
"""Names the session's version too: a peer of another version does not get past the handshake."""
WEBTRANSPORT_ALPN = "h3"


class Framing(Protocol):
    """How a session's datagrams and streams are marked as its own."""

    @property
    def overhead(self) -> int:
        """Bytes that `wrap` adds."""

    def wrap(self, datagram: bytes) -> bytes: ...

    def open_stream(self, *, is_bidirectional: bool) -> int: ...

    def finished(self, stream_id: int) -> None:
        """Nothing more will be written to a stream."""

    def take(self, event: quic_events.QuicEvent, to: CarrierEvents | None) -> None:
        """Pass an event on, without what marks it."""


class PlainFraming:
    """One session is the whole connection."""

    overhead = 0

    def __init__(self, quic: QuicConnection) -> None:
        self._quic = quic

    def wrap(self, datagram: bytes) -> bytes:
        return datagram

    def open_stream(self, *, is_bidirectional: bool) -> int:
        stream_id = self._quic.get_next_available_stream_id(is_unidirectional=not is_bidirectional)
        # An empty write takes the number, so that the next call gives another.
        self._quic.send_stream_data(stream_id, b"")
        return stream_id

    def finished(self, stream_id: int) -> None:
        pass

    def take(self, event: quic_events.QuicEvent, to: CarrierEvents | None) -> None:
        if to is None:
            return
        if isinstance(event, quic_events.DatagramFrameReceived):
            to.datagram(event.data)
        elif isinstance(event, quic_events.StreamDataReceived):
            to.stream_data(event.stream_id, event.data, event.end_stream)
        elif isinstance(event, quic_events.StreamReset | quic_events.StopSendingReceived):
            to.stream_reset(event.stream_id)
