"""Puts `TokenCongestion` in charge of an aioquic connection's window."""

from collections.abc import Callable, Iterable

from aioquic.quic.congestion.base import QuicCongestionControl, register_congestion_control
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.stream import QuicStreamSender
from aioquic.tls import Epoch

from headstart.stages.congestion import (
    PACKET_BYTES,
    CircuitBroken,
    CongestionEvent,
    PacketAcked,
    PacketForgotten,
    PacketLost,
    PacketSent,
    TokenCongestion,
    TripReason,
)

__all__ = ["ALGORITHM", "TokenCongestionControl"]

ALGORITHM = "headstart"
"""For `QuicConfiguration.congestion_control_algorithm`."""
_STREAM_DATA = QuicStreamSender.on_data_delivery.__name__
"""What aioquic calls once a packet with bytes of a stream has arrived or is lost."""


class TokenCongestionControl(QuicCongestionControl):
    """aioquic's view of a `TokenCongestion`.

    aioquic asks for a window and has no clock of its own: whoever drives the connection calls
    `tick` before it builds packets.
    """

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self.machine = TokenCongestion()
        self.broken: TripReason | None = None
        self.num_lost = self.num_acked = 0
        self.latest_rtt: Callable[[], float] | None = None
        """Without the peer's delay, which is in what aioquic hands over."""
        self._now = 0.0
        self._publish()

    def tick(self, now: float) -> None:
        """Let time pass: periods end, and a probe may be due."""
        self._now = now
        self._note(self.machine.expire(now))
        self._publish()

    def path_changed(self, now: float) -> None:
        """Begin anew, as on a path that nothing is known of."""
        self.machine.path_changed(now)
        self._publish()

    def can_send(self, now: float) -> bool:
        """Whether a full packet may leave, inside the window or as a probe."""
        machine = self.machine
        has_room = machine.in_flight_bytes + PACKET_BYTES <= machine.window_bytes
        return has_room or now >= machine.probe_at

    @property
    def probe_at(self) -> float:
        """From when on one packet may leave whatever is in flight, in seconds."""
        return self.machine.probe_at

    def on_packet_sent(self, *, packet: QuicSentPacket) -> None:
        """As aioquic calls it."""
        if packet.sent_time is not None:
            self._now = packet.sent_time
        self._feed(PacketSent(packet.sent_bytes, _is_reliable(packet)))

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        """As aioquic calls it. The round trip comes by itself, after all acknowledged packets."""
        self._now = now
        self.num_acked += 1
        self._feed(
            PacketAcked(packet.sent_bytes, packet.sent_time or now, None, _is_reliable(packet))
        )

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        """As aioquic calls it."""
        self._now = now
        for packet in packets:
            self._lose(packet, now)

    def on_packets_expired(self, *, packets: Iterable[QuicSentPacket]) -> None:
        """As aioquic calls it: for the handshake's keys, dropped; and for losses it knew of."""
        for packet in packets:
            if packet.epoch in (Epoch.INITIAL, Epoch.HANDSHAKE):
                self._feed(PacketForgotten(packet.sent_bytes, _is_reliable(packet)))
            else:
                self._lose(packet, self._now)

    def on_persistent_congestion(self) -> None:
        """As aioquic calls it. The machine has its own circuit breaker."""

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        """As aioquic calls it."""
        found = rtt if self.latest_rtt is None else self.latest_rtt()
        self.machine.round_trip.add(found, now)

    def narrow(self) -> None:
        """Let no more than one packet leave in the next pass; the one after it is as ever."""
        self.congestion_window = min(self.congestion_window, self.bytes_in_flight + PACKET_BYTES)

    def widen(self) -> None:
        """Undo `narrow`."""
        self._publish()

    def _lose(self, packet: QuicSentPacket, now: float) -> None:
        self.num_lost += 1
        sent_at = packet.sent_time or now
        self._feed(PacketLost(packet.sent_bytes, sent_at, _is_reliable(packet)))

    def _feed(self, event: CongestionEvent) -> None:
        self._note(self.machine.feed(event, self._now))
        self._publish()

    def _note(self, actions: list[CircuitBroken]) -> None:
        for action in actions:
            self.broken = action.reason

    def _publish(self) -> None:
        # The breaker ends datagrams; streams stay, inside the window that was left.
        machine = self.machine
        in_flight_bytes, window_bytes = machine.in_flight_bytes, machine.window_bytes
        if in_flight_bytes + PACKET_BYTES > window_bytes and self._now >= machine.probe_at:
            window_bytes = in_flight_bytes + PACKET_BYTES
        self.bytes_in_flight, self.congestion_window = in_flight_bytes, window_bytes


def _is_reliable(packet: QuicSentPacket) -> bool:
    """Whether a packet holds bytes of a stream."""
    return _STREAM_DATA in [handler.__name__ for handler, _ in packet.delivery_handlers]


register_congestion_control(ALGORITHM, TokenCongestionControl)
