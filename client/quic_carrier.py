"""A carrier over aioquic: plain QUIC for native peers, WebTransport for browsers.

Most of what aioquic does not promise to keep is used here; the rest in `webtransport` and in
`headstart.pipeline.quic_listener` (docs/adr/0006). Its datagram queue is never used as one: a
datagram enters it only when a packet can leave, and is taken back if none did. So nothing stale is
ever sent, and no frame that fits no packet can block those behind it.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events as quic_events
from aioquic.quic.connection import NetworkAddress, QuicConnection, QuicNetworkPath
from aioquic.tls import Epoch
from cryptography.hazmat.primitives.serialization import Encoding

from headstart.client.carrier import CarrierEvents, CarrierStats
from headstart.client.quic_congestion import ALGORITHM, TokenCongestionControl
from headstart.client.quic_framing import Framing, PlainFraming
from headstart.stages.errors import ProtocolViolation

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "ALGORITHM",
    "MAX_DATAGRAM_FRAME",
    "Opening",
    "QuicCarrier",
    "peer_certificate",
]

MAX_DATAGRAM_FRAME = 65_536
"""What we accept; what we send is bound by the packet."""

_ACK_DELAY_S = 0.0235
"""An acknowledgement of QUIC's own leaves with the next datagram, or by itself after this: half the
packets, as long as it is more than a frame's time. Peers are told to expect 0.025 s at most."""
_STREAM_ACK_DELAY_S = 0.001
"""One of stream data does not wait: it is what the sender's window waits for."""

_KEPT_ALIVE = 2 / 3
"""Share of the idle time that is left when a sign of life is asked for."""

_SHORT_HEADER_BYTES = 1 + 2
_TAG_BYTES = 16
_MAX_CID_BYTES = 20
"""A peer may go over to longer connection ids at any time; our datagrams must go on to fit."""
_FRAME_BYTES = 1 + 2
_RESET_CODE = 0
_MAX_GAPS_BYTES = 2 << 20
"""Most memory for stream data that waits for what comes before it. QUIC's own limits do not bound
it: they double by the highest offset seen, and a gap is held as if it had been filled."""
_FLOW_CONTROL_ERROR = 0x3


class Opening(Protocol):
    """Decides who listens to a carrier that a peer has opened.

    Args:
        carrier: Ready for use.
        path: What WebTransport asked for; None for plain QUIC.

    Returns:
        None refuses the peer.
    """

    def __call__(self, carrier: "QuicCarrier", path: str | None) -> CarrierEvents | None: ...


class QuicCarrier(QuicConnectionProtocol):
    """One QUIC connection that carries one session. A `Carrier`.

    Args:
        quic: Configured with `ALGORITHM` and `MAX_DATAGRAM_FRAME`.
        opening: Asked who listens, once the peer's protocol is known.
        framing: A server's, by protocol name; None is plain QUIC.
    """

    def __init__(
        self,
        quic: QuicConnection,
        opening: Opening,
        framing: Callable[["QuicCarrier", str], Framing | None] = lambda carrier, alpn: None,
    ) -> None:
        super().__init__(quic)
        control = quic._loss._cc
        assert isinstance(control, TokenCongestionControl)
        self._control = control
        control.latest_rtt = lambda: quic._loss._rtt_latest
        quic._ack_delay = _ACK_DELAY_S
        self._opening = opening
        self._framing_for = framing
        self._framing: Framing | None = None
        self._events: CarrierEvents | None = None
        self._slots: dict[int, bytes] = {}
        """The newest unsent datagram of each stream, the longest waiting first."""
        self._is_blocked = False
        self._is_streams_turn = False
        self._is_asking = False
        """Whether streams are being told that there is room: they leave in turn once all were."""
        self._is_broken = False
        self.ended_for = ""
        """Why the session is over, once it is."""
        self._is_gone = False
        self._is_established = False
        self._peer_host = ""
        self._stats = CarrierStats()
        self._checked_offset = 0
        """Sum of the streams' highest offsets when their gaps were last looked at."""
        self._room_timer: asyncio.TimerHandle | None = None

    # As a `Carrier`.

    @property
    def is_established(self) -> bool:
        return self._is_established

    def max_payload(self) -> int:
        quic = self._quic
        peer_limit = quic._remote_max_datagram_frame_size or 0
        if self._framing is None or self._is_broken or peer_limit <= _FRAME_BYTES:
            return 0
        packet = quic.configuration.max_datagram_size - _SHORT_HEADER_BYTES - _TAG_BYTES
        room = min(packet - _MAX_CID_BYTES, peer_limit) - _FRAME_BYTES
        return max(0, room - self._framing.overhead)

    def send_latest(self, stream: int, data: bytes) -> bool:
        if len(data) > self.max_payload():
            if self.max_payload() == 0:
                return True  # the path was lost a moment ago, and whoever sends will hear of it
            self._stats.oversize += 1
            raise ProtocolViolation(f"a datagram of {len(data)} bytes does not fit a packet")
        if stream in self._slots:
            self._stats.replaced += 1
        self._slots[stream] = data  # in the place of what it replaces
        self._flush()
        return not self._is_blocked

    def open_stream(self, *, is_bidirectional: bool) -> int:
        assert self._framing is not None, "no stream before the session is open"
        return self._framing.open_stream(is_bidirectional=is_bidirectional)

    def write(self, stream_id: int, data: bytes, *, is_end: bool = False) -> None:
        # aioquic raises where a stream was finished or reset, by us or by the peer.
        with suppress(ValueError, RuntimeError):
            self._quic.send_stream_data(stream_id, data, is_end)
        if is_end and self._framing is not None:
            self._framing.finished(stream_id)
        self._transmit_soon()

    def backlog(self, stream_id: int) -> int:
        stream = self._quic._streams.get(stream_id)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender._buffer_start

    def reset_stream(self, stream_id: int) -> None:
        with suppress(ValueError, RuntimeError):
            self._quic.reset_stream(stream_id, _RESET_CODE)
        with suppress(ValueError, RuntimeError):
            self._quic.stop_stream(stream_id, _RESET_CODE)
        if self._framing is not None:
            self._framing.finished(stream_id)
        self._transmit_soon()

    def keep_alive(self, now: float) -> None:
        quic = self._quic
        if self._is_gone or quic._close_at is None or quic._ack_eliciting_sent_since_receipt:
            return  # what was sent already is answered, sent again, or the end
        if now >= quic._close_at - _KEPT_ALIVE * quic._idle_timeout():
            quic.send_ping(0)
            self.transmit()

    def stats(self) -> CarrierStats:
        loss = self._quic._loss
        self._stats.srtt_s = loss._rtt_smoothed if loss._rtt_initialized else loss._rtt_initial
        self._stats.packets_lost = self._control.num_lost
        self._stats.packets_confirmed = self._control.num_acked
        return self._stats

    def close(self, code: int = 0, reason: str = "") -> None:
        if self._transport is not None and not self._transport.is_closing():
            super().close(code, reason)
        self._release(reason or "closed")

    # What framings and end points need.

    @property
    def quic(self) -> QuicConnection:
        """The connection itself."""
        return self._quic

    @property
    def transport(self) -> "asyncio.DatagramTransport":
        """The socket."""
        assert self._transport is not None
        return self._transport

    def pend(self, framing: Framing) -> None:
        """Let a framing see what comes, before its session is open."""
        self._framing = framing

    def open(self, framing: Framing, path: str | None) -> bool:
        """Begin the session that the peer has asked for, or that this end asks for.

        Returns:
            Whether somebody listens.
        """
        self._framing = framing
        self._events = self._opening(self, path)
        return self._events is not None

    def _release(self, reason: str) -> None:
        """A client's socket is its connection's own, and waits for nothing."""
        if self._quic.configuration.is_client:
            if self._transport is not None:
                self._transport.close()
            if self._timer is not None:
                self._timer.cancel()
            self.end(reason)

    def end(self, reason: str) -> None:
        """The session is over, whatever becomes of the connection."""
        if self._is_gone:
            return
        self._is_gone = True
        self.ended_for = reason
        self._slots.clear()
        if self._room_timer is not None:
            self._room_timer.cancel()
        if self._events is not None:
            self._events.closed(reason)

    # As aioquic's protocol.

    def quic_event_received(self, event: quic_events.QuicEvent) -> None:
        if isinstance(event, quic_events.ProtocolNegotiated):
            self._negotiated(event.alpn_protocol or "")
        elif isinstance(event, quic_events.HandshakeCompleted):
            self._is_established = True
            if self._events is not None:
                self._events.established()
        elif isinstance(event, quic_events.ConnectionTerminated):
            reason = event.reason_phrase or f"error {event.error_code:#x}"
            self.end(reason)
            self._release(reason)
        elif self._framing is not None and not self._is_gone:
            if isinstance(event, quic_events.DatagramFrameReceived):
                self._stats.received += 1
            else:
                self._acknowledge_within(_STREAM_ACK_DELAY_S)
            self._framing.take(event, self._events)

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        assert isinstance(data, bytes)
        self._quic.receive_datagram(data, addr, now=self._loop.time())
        self._process_events()
        paths = self._quic._network_paths
        if paths and paths[0].addr[0] != self._peer_host:
            self._follow_peer(paths[0])
        if self._is_hoarding():
            self.close(_FLOW_CONTROL_ERROR, "too much stream data waits for what is before it")
            self.end("too much stream data out of order")
        elif self._has_work:
            self.transmit()
        else:
            self._set_timer()
        if self._events is not None and not self._is_gone:
            self._events.progressed()

    def _follow_peer(self, path: QuicNetworkPath) -> None:
        """Take note of where the peer is: another port is most often the same path still."""
        if not path.is_validated:
            return
        is_first, self._peer_host = not self._peer_host, path.addr[0]
        if not is_first:
            self.path_changed()

    def path_changed(self) -> None:
        """Forget what was measured: one of the two ends is at another address."""
        self._control.path_changed(self._loop.time())
        self._quic._loss._rtt_initialized = False
        self._quic._loss._rtt_min = float("inf")
        if self._events is not None and not self._is_gone:
            self._events.path_changed()

    def _is_hoarding(self) -> bool:
        """Whether a peer that leaves gaps takes more memory than it may."""
        offset = self._quic._local_max_data.used
        if offset == self._checked_offset:
            return False  # only what is new at its stream's end takes more
        self._checked_offset = offset
        streams = self._quic._streams.values()
        return sum(len(stream.receiver._buffer) for stream in streams) > _MAX_GAPS_BYTES

    def transmit(self) -> None:
        """Send what is due. Where datagrams and streams wait for one window, they take turns."""
        self._control.tick(self._loop.time())
        if self._transport is not None and self._transport.is_closing():
            return
        if self._is_blocked and self._can_send(self._loop.time()):
            self._is_streams_turn = not self._is_streams_turn
            if not self._is_streams_turn:
                self._unblock()
        super().transmit()
        if self._is_gone:
            return
        if self._control.broken is not None and not self._is_broken:
            self._break(self._control.broken.value)
        self._unblock()
        self._await_room()

    def _unblock(self) -> None:
        """Have datagrams made and send them, if they waited for room and there is some."""
        if not self._is_blocked or not self._can_send(self._loop.time()):
            return
        self._is_blocked = False
        if self._events is not None:
            self._is_asking = True
            try:
                self._events.ready()
            finally:
                self._is_asking = False
        self._flush()

    @property
    def _has_work(self) -> bool:
        """Whether a packet may be due. Most that come want nothing but to be acknowledged."""
        quic = self._quic
        paths = quic._network_paths
        return (
            not quic._handshake_confirmed
            or quic._handshake_done_pending
            or quic._close_pending
            or self._is_blocked
            or self._control.broken is not None
            or len(paths) != 1
            or not paths[0].is_validated
            or bool(paths[0].remote_challenges)
            or any(not stream.sender.buffer_is_empty for stream in quic._streams_queue)
        )

    def _set_timer(self) -> None:
        """Wake up when aioquic asks, and soon in any case: it may have something small to say."""
        at = self._loop.time() + _ACK_DELAY_S
        if (asked := self._quic.get_timer()) is not None:
            at = min(at, asked)
        if self._timer is not None:
            if self._timer_at is not None and self._timer_at <= at:
                return  # what it is early for is looked at then
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._handle_timer)
        self._timer_at = at

    def _acknowledge_within(self, delay_s: float) -> None:
        space = self._quic._spaces[Epoch.ONE_RTT]
        if space.ack_at is not None:
            space.ack_at = min(space.ack_at, self._loop.time() + delay_s)

    def _negotiated(self, alpn: str) -> None:
        if self._quic.configuration.is_client:
            return  # it opens its session itself, once it trusts the server
        framing = self._framing_for(self, alpn)
        if framing is not None:
            self.pend(framing)
        elif not self.open(PlainFraming(self._quic), None):
            self.close(reason="not now")

    def _flush(self) -> None:
        """Send what waits, a packet a datagram, as far as the path takes it."""
        if self._is_asking:
            return
        quic = self._quic
        framing = self._framing
        assert framing is not None
        while self._slots and not self._is_gone:
            now = self._loop.time()
            self._control.tick(now)
            if not self._can_send(now):
                self._is_blocked = True
                break
            stream, data = next(iter(self._slots.items()))
            self._acknowledge_within(0)
            quic.send_datagram_frame(framing.wrap(data))
            self._control.narrow()  # or streams would take what other datagrams wait for
            super().transmit()
            self._control.widen()
            if quic._datagrams_pending:
                # No packet left: pacing, or an address that is not validated yet.
                quic._datagrams_pending.clear()
                self._is_blocked = True
                break
            del self._slots[stream]
            self._stats.sent += 1
        if not self._slots and not self._is_gone and not self._is_blocked:
            self._is_blocked = not self._can_send(self._loop.time())
        self._await_room()

    def _can_send(self, now: float) -> bool:
        is_paced: Any = self._quic._loss._pacer.next_send_time(now=now)
        return not self._is_broken and is_paced is None and self._control.can_send(now)

    def _await_room(self) -> None:
        """Wake up when pacing ends; or, the window being full, when one packet may leave anyway."""
        if self._room_timer is not None:
            self._room_timer.cancel()
            self._room_timer = None
        if self._is_blocked and not self._is_broken:
            now = self._loop.time()
            paced_until: float | None = self._quic._loss._pacer.next_send_time(now=now)
            at = self._control.probe_at if paced_until is None else paced_until
            if at > now:
                self._room_timer = self._loop.call_at(at, self.transmit)

    def _break(self, reason: str) -> None:
        self._is_broken, self._is_blocked = True, False
        self._slots.clear()
        if self._events is not None:
            self._events.broken(reason)


def peer_certificate(quic: QuicConnection) -> bytes | None:
    """Return the peer's certificate, in DER, once the handshake is over."""
    certificate = quic.tls._peer_certificate
    return None if certificate is None else certificate.public_bytes(Encoding.DER)
