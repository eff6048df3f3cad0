"""How much a connection that carries tokens may have in flight, and when it must stop.

Random loss is not congestion: a token stream is far below what any path carries, and halving it
for every lost radio packet starves it without relieving anybody. So datagrams alone keep their
window unless loss comes with a longer round trip, or much is lost for long. RFC 8085 is met by
other means:

- A stream's datagrams cannot exceed their byte rate, `ByteRate`.
- A window that is not used does not grow (RFC 9002 section 7.8).
- Loss with delay halves the window, down to four packets; lasting heavy loss down to ten.
- Reliable bytes share the window and have no rate of their own. While there are some in flight, any
  loss halves the window, as TCP's (RFC 9002 section 7.3.2), but leaves what datagrams had in
  flight, or ten packets.
- Whatever is in flight, at loss p the window is at most ten times what TCP's equation grants, which
  is `1 / sqrt(2p/3)` packets a round trip: the bound of RFC 8083 (section 4.3). Ten packets are
  always inside it.
- A circuit breaker ends datagrams on a path that loses most of them, or answers none (RFC 8084).
"""

from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

from headstart.stages.path_estimate import RoundTrip

__all__ = [
    "PACKET_BYTES",
    "ByteRate",
    "CircuitBroken",
    "CongestionEvent",
    "PacketAcked",
    "PacketForgotten",
    "PacketLost",
    "PacketSent",
    "TokenCongestion",
    "TripReason",
]

PACKET_BYTES = 1200
"""A full packet, and what windows are counted in."""
_INITIAL_PACKETS = 10
"""RFC 9002 section 7.2. Loss without delay never takes the window below it."""
_MIN_PACKETS = 4
"""Loss with delay does."""
_INFLATION = 0.25
"""A round trip longer than the shortest by this share means a queue."""
_MIN_QUEUE_S = 0.005
"""Below this, a longer round trip is jitter."""
_JITTERS = 4
"""Below so many times the difference of two in a row, too: delays drawn anew for each packet are
two to three times as long on average, and a queue hardly differs from one to the next."""
_MAX_TIMES_TCP = 10
"""RFC 8083 section 4.3."""
_UNBOUNDED_PACKETS = 1 << 20
"""Where nothing is lost: a gigabyte, which nothing here fills."""
_HIGH_LOSS = 0.2
"""More than radio links lose for long; it counts as heavy in two periods in a row."""
_LOSS_PERIOD_S = 2.5
"""Two of them are a burst of losses' length many times over."""
_LOSS_MIN_PACKETS = 20
"""Fewer say nothing of a fifth."""
_BREAKER_PERIOD_S = 1.0
_BREAKER_PERIODS = 10
_BREAKER_LOSS = 0.5
_BREAKER_MIN_PACKETS = 5
"""More than half lost in each of ten seconds in a row: this path is not for datagrams."""
_MAX_ACK_DELAY_S = 0.025
"""RFC 9000 section 18.2, the default."""
_EAGER_PROBE_S = 0.04
"""Least time between two probes: two of the fastest frames."""
_EAGER_PROBES = 8
"""So many leave as soon as an answer could have come: on a short path a burst of losses fills the
window by itself, and is over before a slower probe. Three times as many cost a blackout of 5 s 7 %
of its bytes."""
_MIN_PROBE_S = 0.1
_MAX_PROBE_S = 0.4
"""A full window does not end probing: after a blackout somebody must find that it is over."""
_STEADY_PROBES = 100
"""Ten seconds of a packet each 100 ms, less than the stream sent before; then they back off."""
_MAX_PROBES = 110
"""Doubled ten times by then: far beyond `_MAX_PROBE_S`; counting on would only grow."""
_SILENCE_S = 30.0
"""Nothing acknowledged for so long, while sending: nobody is there."""


@dataclass(frozen=True, slots=True)
class PacketSent:
    """An ack-eliciting packet left."""

    size_bytes: int
    is_reliable: bool = False
    """Whether bytes of a stream are in it, which are sent until they arrive."""


@dataclass(frozen=True, slots=True)
class PacketAcked:
    """The peer's transport has confirmed a packet."""

    size_bytes: int
    sent_at: float
    rtt_s: float | None
    """A new round-trip sample in seconds, if the confirmation gave one."""
    is_reliable: bool = False


@dataclass(frozen=True, slots=True)
class PacketLost:
    """A packet is taken for lost."""

    size_bytes: int
    sent_at: float
    is_reliable: bool = False


@dataclass(frozen=True, slots=True)
class PacketForgotten:
    """Nobody will say what became of a packet: its keys were dropped (RFC 9002 section 6.4)."""

    size_bytes: int
    is_reliable: bool = False


class TripReason(StrEnum):
    """Why the circuit breaker ended a connection's datagrams; values are metric label values."""

    HEAVY_LOSS = "heavy_loss"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class CircuitBroken:
    """No more datagrams on this connection: fall back to a reliable stream."""

    reason: TripReason


CongestionEvent = PacketSent | PacketAcked | PacketLost | PacketForgotten


class TokenCongestion:
    """The congestion window of one connection.

    Args:
        initial_rtt_s: Assumed before the first sample, in seconds.
    """

    def __init__(self, initial_rtt_s: float = 0.1) -> None:
        self.window_bytes = _INITIAL_PACKETS * PACKET_BYTES
        self.in_flight_bytes = 0
        self._reliable_bytes = 0
        """Those of them that are in packets with bytes of streams."""
        self._datagram_peak = self._older_peak = 0
        """Most bytes of other packets in flight, in this loss period and in the one before."""
        self._max_window = _UNBOUNDED_PACKETS * PACKET_BYTES
        self.is_broken = False
        self.round_trip = RoundTrip(initial_rtt_s)
        self._last_sent_at = float("-inf")
        self._num_probes = 0
        self._slow_start_below: float = float("inf")
        self._recovery_since = float("-inf")
        """Packets sent before this have had their say."""
        self._period_end: float | None = None
        self._num_acked = self._num_lost = 0
        self._is_loss_high = self._was_loss_high = False
        self._breaker_end: float | None = None
        self._breaker_acked = self._breaker_lost = 0
        self._num_bad_periods = 0
        self._unanswered_since: float | None = None

    def can_send(self, size_bytes: int, now: float) -> bool:
        """Whether a packet may leave now."""
        fits = self.in_flight_bytes + size_bytes <= self.window_bytes
        return not self.is_broken and (fits or now >= self.probe_at)

    @property
    def probe_at(self) -> float:
        """From when on one packet may leave whatever is in flight (RFC 9002 section 7.5).

        Not before the path has been silent for twice its shortest round trip, which a confirmation
        that was late by a blackout does not raise; then at a steady pace for a while, on short
        paths faster at first.
        """
        probe_s = _MIN_PROBE_S
        if self._num_probes < _EAGER_PROBES and not self._has_queue:
            answered_s = self.round_trip.min_s + _MAX_ACK_DELAY_S
            probe_s = min(probe_s, max(_EAGER_PROBE_S, answered_s))
        num_doublings = max(0, self._num_probes - _STEADY_PROBES)
        next_at = self._last_sent_at + min(probe_s * 2.0**num_doublings, _MAX_PROBE_S)
        if self._unanswered_since is None:
            return next_at
        return max(next_at, self._unanswered_since + 2 * self.round_trip.min_s + _MAX_ACK_DELAY_S)

    def feed(self, event: CongestionEvent, now: float) -> list[CircuitBroken]:
        """Take what happened to one packet."""
        actions = self.expire(now)
        if isinstance(event, PacketSent):
            self.in_flight_bytes += event.size_bytes
            self._reliable_bytes += event.size_bytes * event.is_reliable
            datagram_bytes = self.in_flight_bytes - self._reliable_bytes
            self._datagram_peak = max(self._datagram_peak, datagram_bytes)
            if self.in_flight_bytes > self.window_bytes:
                self._num_probes = min(self._num_probes + 1, _MAX_PROBES)
            self._last_sent_at = now
            if self._unanswered_since is None:
                self._unanswered_since = now
            if self._breaker_end is None:
                self._period_end, self._breaker_end = now + _LOSS_PERIOD_S, now + _BREAKER_PERIOD_S
            return actions
        was_used = self.in_flight_bytes * 2 >= self.window_bytes
        is_bulk = self._reliable_bytes > 0
        self.in_flight_bytes = max(0, self.in_flight_bytes - event.size_bytes)
        self._reliable_bytes = max(0, self._reliable_bytes - event.size_bytes * event.is_reliable)
        if isinstance(event, PacketForgotten):
            if not self.in_flight_bytes:
                self._unanswered_since = None  # nobody owes an answer
            return actions
        if isinstance(event, PacketLost):
            self._num_lost += 1
            self._breaker_lost += 1
            if event.sent_at > self._recovery_since:
                if self._has_queue or self._is_loss_high:
                    self._shrink(_MIN_PACKETS if self._has_queue else _INITIAL_PACKETS, now)
                elif is_bulk:
                    self._shrink(_INITIAL_PACKETS, now, self._datagram_peak, self._older_peak)
            return actions
        # What is still in flight left after this packet did: if there is a silence, it began then.
        self._unanswered_since = event.sent_at if self.in_flight_bytes else None
        self._num_probes = 0
        self._num_acked += 1
        self._breaker_acked += 1
        if event.rtt_s is not None:
            self.round_trip.add(event.rtt_s, now)
        if was_used and event.sent_at > self._recovery_since:
            self._grow(event.size_bytes)
        return actions

    def path_changed(self, now: float) -> None:
        """Begin anew: the path's end is at another address (RFC 9000 section 9.4).

        What is in flight stays so until its sender knows better, but its losses say nothing of the
        new path, and no more do the old one's round trip, window and periods of loss.
        """
        self.window_bytes = _INITIAL_PACKETS * PACKET_BYTES
        self._max_window = _UNBOUNDED_PACKETS * PACKET_BYTES
        self._slow_start_below = float("inf")
        self._recovery_since = now
        self._num_probes = 0
        self._unanswered_since = now if self.in_flight_bytes else None
        self.round_trip = RoundTrip(self.round_trip.smoothed_s)
        self._num_acked = self._num_lost = self._breaker_acked = self._breaker_lost = 0
        self._is_loss_high = self._was_loss_high = False
        self._num_bad_periods = 0

    def expire(self, now: float) -> list[CircuitBroken]:
        """Close the periods that have ended.

        No timer is needed: while packets are unanswered their sender has timers of its own, and
        asks before it sends.
        """
        if self.is_broken:
            return []
        if self._period_end is not None and now >= self._period_end:
            self._close_loss_period(now)
        if self._breaker_end is not None and now >= self._breaker_end:
            self._close_breaker_period(now)
        reason: TripReason | None = None
        if self._num_bad_periods >= _BREAKER_PERIODS:
            reason = TripReason.HEAVY_LOSS
        elif self._unanswered_since is not None and now >= self._unanswered_since + _SILENCE_S:
            reason = TripReason.SILENCE
        if reason is None:
            return []
        self.is_broken = True
        return [CircuitBroken(reason)]

    @property
    def _has_queue(self) -> bool:
        trip = self.round_trip
        jitter_s = max(_MIN_QUEUE_S, _JITTERS * trip.jitter_s)
        return trip.smoothed_s - trip.min_s > max(_INFLATION * trip.min_s, jitter_s)

    def _shrink(self, min_packets: int, now: float, *needed_bytes: int) -> None:
        self._recovery_since = now
        # A window already below the gentler floor is not raised by a loss.
        floor_bytes = min(max(min_packets * PACKET_BYTES, *needed_bytes, 0), self.window_bytes)
        self.window_bytes = max(floor_bytes, self.window_bytes // 2)
        self._slow_start_below = self.window_bytes

    def _grow(self, acked_bytes: int) -> None:
        if self.window_bytes < self._slow_start_below:
            self.window_bytes += acked_bytes
        else:
            self.window_bytes += max(1, PACKET_BYTES * acked_bytes // self.window_bytes)
        self.window_bytes = min(self.window_bytes, self._max_window)

    def _close_loss_period(self, now: float) -> None:
        total = self._num_acked + self._num_lost
        is_high = total >= _LOSS_MIN_PACKETS and self._num_lost > _HIGH_LOSS * total
        if total >= _LOSS_MIN_PACKETS:
            self._max_window = _most_at(self._num_lost / total)
            self.window_bytes = min(self.window_bytes, self._max_window)
        self._older_peak = self._datagram_peak
        self._datagram_peak = self.in_flight_bytes - self._reliable_bytes
        self._is_loss_high, self._was_loss_high = is_high and self._was_loss_high, is_high
        self._num_acked = self._num_lost = 0
        self._period_end = now + _LOSS_PERIOD_S

    def _close_breaker_period(self, now: float) -> None:
        total = self._breaker_acked + self._breaker_lost
        if total >= _BREAKER_MIN_PACKETS:
            is_bad = self._breaker_lost > _BREAKER_LOSS * total
            self._num_bad_periods = self._num_bad_periods + 1 if is_bad else 0
        self._breaker_acked = self._breaker_lost = 0
        self._breaker_end = now + _BREAKER_PERIOD_S


def _most_at(loss: float) -> int:
    """Largest window that a share of packets lost allows, in bytes."""
    packets = _MAX_TIMES_TCP / sqrt(2 * loss / 3) if loss else _UNBOUNDED_PACKETS
    return int(packets * PACKET_BYTES)


class ByteRate:
    """A cap on one stream's bytes a second.

    Args:
        bytes_per_s: Long-run rate.
        burst_bytes: What may leave at once after a pause.
    """

    __slots__ = ("_at", "_burst_bytes", "_bytes_per_s", "_tokens")

    def __init__(self, bytes_per_s: float, burst_bytes: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._burst_bytes = burst_bytes
        self._tokens = burst_bytes
        self._at = float("-inf")

    def spend(self, size_bytes: int, now: float) -> None:
        """Take the bytes of what has just left; the balance may go below zero."""
        elapsed = max(0.0, now - self._at)
        if elapsed * self._bytes_per_s >= self._burst_bytes - self._tokens:
            self._tokens = self._burst_bytes
        else:
            self._tokens += elapsed * self._bytes_per_s
        self._tokens -= size_bytes
        self._at = now

    @property
    def free_at(self) -> float:
        """When the balance is out of the red: the next datagram may leave then."""
        return self._at + max(0.0, -self._tokens) / self._bytes_per_s
