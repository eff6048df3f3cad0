"""What readers use today, for the simulator: retransmission in order, and sending everything twice.

The retransmission rule is Linux's as far as it matters to a thin stream, and kinder: RACK with
three duplicate acknowledgements (RFC 8985), tail-loss probe, RTO of at least 200 ms with doubling
(RFC 6298), every segment acknowledged at once and selectively, exact round trips, and no congestion
window at all. Each engine step is one segment; the reader sees them in order.

`is_classic` leaves RFC 5681 alone: three duplicate acknowledgements or the RTO, nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.benchmarks.link_simulator import Packet
from headstart.stages.path_estimate import RoundTrip

__all__ = [
    "TEXT_BYTES",
    "Acknowledgement",
    "InOrderClient",
    "RetransmitServer",
    "Segment",
    "SegmentReceiver",
    "SegmentSender",
    "TimerDuplicationServer",
]

_MIN_RTO_S = 0.2
_MAX_RTO_S = 120.0
_DUPLICATES = 3
_ACK_BYTES = 72
TEXT_BYTES = 4
"""What a further token adds to the segment of its step: its text."""


@dataclass(slots=True)
class _Sent:
    number: int
    size_bytes: int
    content: object
    sent_at: float
    is_acked: bool = False
    num_sends: int = 1


@dataclass(frozen=True, slots=True)
class Segment:
    segment: int
    sent_at: float
    content: object


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    cumulative: int
    """Segments received without a gap."""
    beyond: frozenset[int]
    echo_at: float
    """When the segment that caused this was sent (RFC 7323's timestamps)."""


class SegmentSender:
    """A reliable sender of segments.

    Args:
        rtt_s: Round trip of the handshake, in seconds.
        copies: How often each segment is sent at once.
        is_classic: Without RACK's timer and without the tail-loss probe.
    """

    def __init__(self, rtt_s: float, copies: int = 1, is_classic: bool = False) -> None:
        self._round_trip = RoundTrip(rtt_s)
        self._is_classic = is_classic
        self._copies = copies
        self._segments: list[_Sent] = []
        self._first_open = 0
        self._newest_delivered_at = float("-inf")
        self._backoff = 0
        self._armed_at = 0.0
        """When the oldest open segment was sent, or progress last made: the RTO counts from it."""
        self._is_probe_spent = is_classic
        self._reorder_at: float | None = None

    def push(self, size_bytes: int, content: object, now: float) -> list[Packet]:
        """Send a new segment."""
        segment = _Sent(len(self._segments), size_bytes, content, now)
        self._segments.append(segment)
        if self._first_open == segment.number:
            self._armed_at = now
        self._is_probe_spent = self._is_classic
        return self._packets(segment)

    def acknowledged(self, ack: Acknowledgement, now: float) -> list[Packet]:
        """Take an acknowledgement and repair what it shows to be lost."""
        self._round_trip.add(now - ack.echo_at, now)
        self._newest_delivered_at = max(self._newest_delivered_at, ack.echo_at)
        before = self._first_open
        for number in [*range(self._first_open, ack.cumulative), *ack.beyond]:
            self._segments[number].is_acked = True
        is_open = self._first_open < len(self._segments)
        while is_open and self._segments[self._first_open].is_acked:
            self._first_open += 1
            is_open = self._first_open < len(self._segments)
        if self._first_open > before or (ack.beyond and not self._is_classic):
            self._backoff, self._armed_at, self._is_probe_spent = 0, now, self._is_classic
        return self._repair(now)

    def deadline(self) -> float | None:
        """When the reordering timer, the tail-loss probe or the RTO runs out."""
        if self._first_open == len(self._segments):
            return None
        timeout = self._rto_s if self._is_probe_spent else min(self._rto_s, self._probe_s)
        last_sent_at = max(self._armed_at, self._segments[-1].sent_at)
        due = (self._armed_at if self._is_probe_spent else last_sent_at) + timeout
        due = min(due, self._armed_at + self._rto_s)
        return due if self._reorder_at is None else min(due, self._reorder_at)

    def expire(self, now: float) -> list[Packet]:
        """Repair what the timers say is lost."""
        if self._reorder_at is not None and now >= self._reorder_at:
            return self._repair(now)
        due = self.deadline()
        if due is None or now < due:
            return []
        if now < self._armed_at + self._rto_s and not self._is_probe_spent:
            self._is_probe_spent = True
            open_segments = [s for s in self._segments[self._first_open :] if not s.is_acked]
            return self._send_again(open_segments[-1], now)
        self._backoff += 1
        self._armed_at = now
        return self._send_again(self._segments[self._first_open], now)

    @property
    def _rto_s(self) -> float:
        base = self._round_trip.smoothed_s + max(4 * self._round_trip.variation_s, _MIN_RTO_S)
        return min(_MAX_RTO_S, base * 2.0 ** min(self._backoff, 10))

    @property
    def _probe_s(self) -> float:
        return 2 * self._round_trip.smoothed_s

    def _repair(self, now: float) -> list[Packet]:
        self._reorder_at = None
        packets: list[Packet] = []
        window = self._segments[self._first_open :]
        num_later = sum(segment.is_acked for segment in window)
        for segment in window:
            if segment.is_acked:
                num_later -= 1
                continue
            if segment.sent_at >= self._newest_delivered_at:
                continue
            is_enough = num_later >= _DUPLICATES
            slack = 0.0 if is_enough else self._round_trip.min_s / 4
            lost_at = segment.sent_at + self._round_trip.smoothed_s + slack
            is_overdue = now >= lost_at and not self._is_classic
            if is_overdue or (is_enough and segment.num_sends == 1):
                packets += self._send_again(segment, now)
            elif not self._is_classic:
                self._reorder_at = min(lost_at, self._reorder_at or lost_at)
        return packets

    def _send_again(self, segment: _Sent, now: float) -> list[Packet]:
        segment.sent_at = now
        segment.num_sends += 1
        return self._packets(segment)[:1]

    def _packets(self, segment: _Sent) -> list[Packet]:
        data = Segment(segment.number, segment.sent_at, segment.content)
        return [Packet(segment.size_bytes, data)] * self._copies


class SegmentReceiver:
    """The other end: acknowledges every segment, hands contents on in order."""

    def __init__(self) -> None:
        self.num_in_order = 0
        self._contents: dict[int, object] = {}

    def received(self, data: Segment) -> tuple[Packet, list[object]]:
        """Return the acknowledgement and what is now in order."""
        if data.segment >= self.num_in_order:
            self._contents.setdefault(data.segment, data.content)
        ready: list[object] = []
        while self.num_in_order in self._contents:
            ready.append(self._contents.pop(self.num_in_order))
            self.num_in_order += 1
        ack = Acknowledgement(self.num_in_order, frozenset(self._contents), data.sent_at)
        return Packet(_ACK_BYTES, ack), ready


class RetransmitServer:
    """One segment for each engine step.

    Args:
        rtt_s: Round trip of the handshake, in seconds.
        segment_bytes: On the wire, of a step of one token.
        sizes: Tokens of each step; one where there is none.
    """

    def __init__(
        self,
        rtt_s: float,
        segment_bytes: int,
        sizes: Sequence[int] = (),
        copies: int = 1,
        is_classic: bool = False,
    ) -> None:
        self._sender = SegmentSender(rtt_s, copies, is_classic)
        self._segment_bytes = segment_bytes
        self._sizes = sizes

    def produced(self, step: int, is_last: bool, now: float) -> list[Packet]:
        """Send it."""
        num_more = self._sizes[step] - 1 if self._sizes else 0
        return self._sender.push(self._segment_bytes + TEXT_BYTES * num_more, step, now)

    def received(self, packet: Packet, now: float) -> list[Packet]:
        """Take an acknowledgement."""
        assert isinstance(packet.content, Acknowledgement)
        return self._sender.acknowledged(packet.content, now)

    def deadline(self) -> float | None:
        """The sender's next timer."""
        return self._sender.deadline()

    def expire(self, now: float) -> list[Packet]:
        """Run the sender's timers."""
        return self._sender.expire(now)


class TimerDuplicationServer:
    """Duplication whose lost tokens are repaired by a timer, all copies at once.

    The paper does not say how its duplication repairs a token of which every copy is lost. With the
    timer of its own scheme, 200 ms whatever the round trip, its figures come out at both round
    trips; with the rule of `SegmentSender` they do not.
    """

    def __init__(self, segment_bytes: int, copies: int, timer_s: float = 0.2) -> None:
        self._segment_bytes = segment_bytes
        self._copies = copies
        self._timer_s = timer_s
        self._due: dict[int, float] = {}
        """When each token without an acknowledgement is sent again."""

    def produced(self, step: int, is_last: bool, now: float) -> list[Packet]:
        """Send it."""
        return self._send(step, now)

    def received(self, packet: Packet, now: float) -> list[Packet]:
        """Take an acknowledgement."""
        ack = packet.content
        assert isinstance(ack, Acknowledgement)
        for token in [t for t in self._due if t < ack.cumulative or t in ack.beyond]:
            del self._due[token]
        return []

    def deadline(self) -> float | None:
        """The first timer to run out."""
        return min(self._due.values(), default=None)

    def expire(self, now: float) -> list[Packet]:
        """Send again what is due."""
        overdue = [token for token, due in self._due.items() if due <= now]
        return [packet for token in overdue for packet in self._send(token, now)]

    def _send(self, token: int, now: float) -> list[Packet]:
        self._due[token] = now + self._timer_s
        return [Packet(self._segment_bytes, Segment(token, now, token))] * self._copies


class InOrderClient:
    """Shows tokens in order."""

    def __init__(self) -> None:
        self._receiver = SegmentReceiver()

    @property
    def num_rendered(self) -> int:
        """Tokens shown so far."""
        return self._receiver.num_in_order

    def received(self, packet: Packet, now: float) -> list[Packet]:
        """Take a segment."""
        assert isinstance(packet.content, Segment)
        return [self._receiver.received(packet.content)[0]]

    def deadline(self) -> float | None:
        """None: acknowledgements are not delayed."""
        return None

    def expire(self, now: float) -> list[Packet]:
        """Nothing is ever due."""
        return []
