"""Sends one token log to one reader by datagrams of which any single one can be shown.

Each datagram is a snapshot: everything from the reader's confirmed cursor to the newest token. It
is built when it leaves, so nothing stale waits in a queue, and a lost one is made good by whichever
comes next. `RepeatPolicy` decides how often there is a next one when no new token makes it.

What the log means is not known here, nor how bytes reach the network.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from headstart.stages.congestion import ByteRate
from headstart.stages.datagram_events import (
    AckReceived,
    CarrierBlocked,
    CarrierReady,
    CatchUp,
    Cause,
    Finished,
    PathChanged,
    ReaderAdvanced,
    SenderAction,
    SenderEvent,
    Transmit,
)
from headstart.stages.errors import ProtocolViolation
from headstart.stages.path_estimate import RoundTrip
from headstart.stages.repeat_policy import ACK_DELAY_S, RepeatPolicy
from headstart.stages.snapshot_window import SnapshotWindow
from headstart.stages.stage_clock import ClockOffset
from headstart.stages.token_log import TokenLog
from headstart.stages.wire import Ack, encode_snapshot, log_digest, max_snapshot_overhead

__all__ = ["MIN_PAYLOAD", "DatagramSender", "SenderLimits"]

MIN_PAYLOAD = 128
"""A path that carries no longer datagrams is one for streams, in bytes."""
_SECONDS = 1e-6
_HEARTBEAT_S = 1.0
"""An empty snapshot, so that a reader can tell a slow engine from a dead path."""
_MAX_HELD_S = 0.2
"""No reader of ours sits on an acknowledgement for longer; who claims so is not believed."""
_CLOCK_STEP_S = 1e-3
"""Browsers' clocks are no finer everywhere."""
_REMEMBERED = 1024
"""Datagrams whose sending time is kept: twenty seconds of them."""
_CATCH_UP_PAYLOADS = 2
"""More than these un-acked go over a reliable stream; after a silence, more than one does: then all
of it is late already, and datagrams would need a round trip for each."""
_SLACK = 0.5
"""Of a frame: so much sooner than its turn new text may leave, while the pace stays what it is.
Steps of an engine may come just as far apart as frames: without, one that was late would have all
later ones wait, each for a timer of its own."""
_READ_PAYLOADS = 16
"""Un-acked log bytes looked at: more than any window that datagrams can repair."""


@dataclass(frozen=True, slots=True)
class SenderLimits:
    """What one stream may take from the network."""

    max_payload: int = 1150
    """Most bytes of one datagram: what the carrier says, at least 128."""
    min_frame_s: float = 0.02
    max_frame_s: float = 0.05
    """Between two datagrams with new text; in between, an eighth of the round trip."""
    bytes_per_s: float = 32_000.0
    """Long-run cap on payload bytes."""


class DatagramSender:
    """Sender's side of one answer.

    Args:
        stream: The session's number for it.
        log: Read, never changed; tell the machine when it grows.
        have: The reader's cursor, from an earlier session or 0.
        rtt_s: Round trip of the handshake, in seconds.

    Raises:
        ProtocolViolation: The limits leave no room for a datagram.
        BadRequest: The cursor is none of the log's.
    """

    def __init__(
        self,
        stream: int,
        log: TokenLog,
        have: int = 0,
        limits: SenderLimits | None = None,
        rtt_s: float = 0.1,
    ) -> None:
        self.limits = limits or SenderLimits()
        if self.limits.max_payload < MIN_PAYLOAD:
            raise ProtocolViolation(f"datagrams of {self.limits.max_payload} bytes are too small")
        self.stream = stream
        self.round_trip = RoundTrip(rtt_s)
        self.policy = RepeatPolicy()
        self.is_finished = False
        self._log = log
        self._window = SnapshotWindow(log, have)
        self._clock_offset = ClockOffset()
        self._rate = ByteRate(self.limits.bytes_per_s, 2 * self.limits.max_payload)
        self._acked = self._sent_until = have
        self._catch_up_until = have
        self._digest: bytes | None = None
        self._is_end_sent = False
        self._is_blocked = False
        self._number = self._newest_acked = 0
        self._sent_at: dict[int, float] = {}
        self._fronts: deque[tuple[float, int]] = deque()
        """When the frontier was moved, and where it was before: oldest first."""
        self._last_base = have
        self._is_tip_next = True
        self._last_new_at = self._last_sent_at = float("-inf")
        """When new text left, or had its turn a little later; and when anything left."""
        self._last_ack_at: float | None = None
        self._num_probes = 0
        self._repair_at: float | None = None
        self._due: tuple[float, Cause] | None = None
        self._due_for: tuple[int, bool] | None = None
        """State of the log that `_due` was worked out for; None where anything else has changed."""

    @property
    def confirmed(self) -> int:
        """The reader's cursor, as far as it has said."""
        return self._acked

    @property
    def frame_s(self) -> float:
        """Least time between two datagrams with new text, in seconds."""
        limits = self.limits
        return self.policy.frame_s(self.round_trip, limits.min_frame_s, limits.max_frame_s)

    def feed(self, event: SenderEvent, now: float) -> list[SenderAction]:
        """Take one event.

        Raises:
            ProtocolViolation: An acknowledgement claims what was never sent.
        """
        actions: list[SenderAction] = []
        self._due_for = None
        if isinstance(event, AckReceived):
            actions += self._take_ack(event.ack, now)
        elif isinstance(event, CarrierBlocked):
            self._is_blocked = True
        elif isinstance(event, CarrierReady):
            self._is_blocked = False
        elif isinstance(event, PathChanged):
            # Losses are looked at over seconds only, and what is un-acked stays so.
            self.round_trip = RoundTrip(self.round_trip.smoothed_s)
            self._clock_offset = ClockOffset()
        return actions + self.expire(now)

    def deadline(self) -> float | None:
        """When the next datagram is due."""
        due = self._next_due()
        return None if due is None else due[0]

    def expire(self, now: float) -> list[SenderAction]:
        """Send what is due."""
        if self.is_finished:
            return []
        actions: list[SenderAction] = []
        due = self._next_due()
        if due is not None and due[0] <= now:
            self._due_for = None
            if self._last_ack_at is None:
                actions += self._open_catch_up(now, _CATCH_UP_PAYLOADS)
            actions.append(self._send(due[1], now))
        return actions

    def _next_due(self) -> tuple[float, Cause] | None:
        seen = self._log.end, self._log.is_closed
        if self._due_for != seen:
            self._due, self._due_for = self._earliest_due(), seen
        return self._due

    def _earliest_due(self) -> tuple[float, Cause] | None:
        if self.is_finished or self._is_blocked:
            return None
        at, cause = (
            min(self._dues()) if self._repair_at is None else (self._repair_at, Cause.REPAIR)
        )
        return max(at, self._rate.free_at), cause

    def _dues(self) -> list[tuple[float, Cause]]:
        dues = [(self._last_sent_at + _HEARTBEAT_S, Cause.HEARTBEAT)]
        if self._has_news:
            turn_at, slack_s = self._turn()
            dues.append((turn_at - slack_s, Cause.NEW))
        if self._has_unacked:
            repeat_at = self.policy.repeat_at()
            if repeat_at is not None:
                dues.append((repeat_at, Cause.REPEAT))
            dues.append((self._last_sent_at + self._probe_timeout_s, Cause.PROBE))
        return dues

    def _turn(self) -> tuple[float, float]:
        """When the next new text is to leave, and by how much sooner it may."""
        frame_s = self.frame_s
        overdue_s = self._last_new_at + frame_s - self._silent_at
        paced_s = self.policy.paced_s(frame_s, overdue_s)
        return self._last_new_at + paced_s, _SLACK * min(paced_s, self.limits.min_frame_s)

    @property
    def _has_news(self) -> bool:
        return self._log.end > self._sent_until or (self._log.is_closed and not self._is_end_sent)

    @property
    def _has_unacked(self) -> bool:
        return self._sent_until > self._acked or self._is_end_sent

    @property
    def _probe_timeout_s(self) -> float:
        first = self.policy.probe_timeout_s(self.round_trip)
        return self.policy.backed_off_s(first, self._num_probes)

    def _send(self, cause: Cause, now: float) -> Transmit:
        self._number += 1
        room = self.limits.max_payload - max_snapshot_overhead(
            self.stream, self._number, self._log.end
        )
        self._extend_window()
        base = self._base(cause, room, now)
        reference_us, items, reached = self._window.take(base, room)
        digest = self._whole_digest() if self._log.is_closed and reached == self._log.end else None
        run = (base, reference_us, items)
        datagram = encode_snapshot(self.stream, self._number, [run], digest)
        fresh_bytes = max(0, reached - self._sent_until)
        if fresh_bytes:
            self._fronts.append((now, self._sent_until))
            self._sent_until = reached
        is_new = bool(fresh_bytes) or (digest is not None and not self._is_end_sent)
        self._is_end_sent |= digest is not None
        self._note_sent(Cause.NEW if is_new else cause, len(datagram), fresh_bytes, base, now)
        return Transmit(datagram, Cause.NEW if is_new else cause, fresh_bytes)

    def _note_sent(
        self, cause: Cause, size_bytes: int, fresh_bytes: int, base: int, now: float
    ) -> None:
        self._sent_at[self._number] = now
        self._sent_at.pop(self._number - _REMEMBERED, None)
        self._rate.spend(size_bytes, now)
        self._last_base, self._last_sent_at = base, now
        self._repair_at = None
        if cause is Cause.PROBE:
            self._num_probes += 1
        if cause is Cause.NEW:
            turn_at, slack_s = self._turn()
            self._last_new_at = max(now, min(turn_at, now + slack_s))
            self.policy.new_sent(now, self.frame_s, size_bytes, fresh_bytes, self._is_end_sent)
        else:
            self.policy.repeated(now, size_bytes)

    def _base(self, cause: Cause, room: int, now: float) -> int:
        """Cursor to send from: the reader's, unless it is known to be better served otherwise."""
        # What is before the window is on its way over a reliable stream.
        base = max(self._acked, self._window.start)
        if self._window.coded_bytes(base) > room:
            base = max(base, self._catch_up_until)
        if cause in (Cause.NEW, Cause.REPEAT):
            window_bytes, rtt_s = self._window.coded_bytes(base), self.round_trip.smoothed_s
            is_repeat = cause is Cause.REPEAT and not self._has_news
            span_s = self.policy.span_s(window_bytes, rtt_s, now >= self._silent_at, is_repeat)
            if span_s is not None:
                base = max(base, self._recent_front(now - span_s))
        if self._window.coded_bytes(base) > room:
            # The newest for the reader that lost nothing, the oldest for the one that did.
            self._is_tip_next = not self._is_tip_next
            if self._is_tip_next:
                return max(base, self._window.tip(room, not_after=self._sent_until))
        return base

    def _recent_front(self, since: float) -> int:
        """Cursor before what was first sent since a moment, and before the last two such sends."""
        for index, (sent_at, front) in enumerate(self._fronts):
            if sent_at >= since or index >= len(self._fronts) - 2:
                return front
        return self._sent_until

    @property
    def _silent_at(self) -> float:
        """From when on an acknowledgement is overdue."""
        if not self._fronts or self._last_ack_at is None:
            return float("inf")
        patience_s = self.round_trip.smoothed_s + 2 * self.frame_s + ACK_DELAY_S
        return max(self._fronts[0][0], self._last_ack_at) + patience_s

    def _front_end(self, index: int) -> int:
        """Cursor reached by the datagram that moved the frontier for the index-th time."""
        is_last = index + 1 == len(self._fronts)
        return self._sent_until if is_last else self._fronts[index + 1][1]

    def _open_catch_up(self, now: float, max_payloads: int) -> Iterator[CatchUp]:
        """Hand over to a reliable stream what no two datagrams can carry.

        Only when the path has just shown that it works: a stream that is opened into a blackout
        waits for its own back-off long after the blackout is over.
        """
        if self._acked < self._catch_up_until:
            return
        limit = max_payloads * self.limits.max_payload
        self._extend_window()
        if self._window.coded_bytes(self._acked) + self._log.end - self._window.end > limit:
            self._catch_up_until = self._sent_until = self._log.end
            self._window.restart(self._log.end)
            self._fronts.append((now, self._acked))
            yield CatchUp(self._acked, self._catch_up_until)

    def _extend_window(self) -> None:
        """Look at what the log has gained, as far as a silent reader may be behind."""
        if self._window.end == self._log.end:
            return
        start = max(self._acked, self._window.start)
        self._window.extend(start + _READ_PAYLOADS * self.limits.max_payload)

    def _whole_digest(self) -> bytes:
        if self._digest is None:
            self._digest = log_digest(self._log.read(0))
        return self._digest

    def _take_ack(self, ack: Ack, now: float) -> Iterator[SenderAction]:
        if ack.have > self._sent_until or ack.newest > self._number:
            raise ProtocolViolation("acknowledgement of bytes never sent")
        if ack.is_complete and not (self._is_end_sent and ack.have == self._log.end):
            raise ProtocolViolation("acknowledgement of an end never sent")
        if self.is_finished:
            return
        is_fresh = ack.newest > self._newest_acked
        if not is_fresh and ack.have <= self._acked and not ack.is_complete:
            return
        was_silent = now >= self._silent_at
        advanced = ack.have > self._acked
        self._acked = max(self._acked, ack.have)
        while self._fronts and self._front_end(0) <= self._acked:
            self._fronts.popleft()
        self._window.forget(self._acked)
        if is_fresh:
            # Anything else may confirm what came over a stream: the silence of datagrams goes on.
            self._last_ack_at = now
            self._num_probes = 0
            self._newest_acked = ack.newest
            self.policy.acked(ack.newest, ack.num_received, now)
            yield from self._take_times(ack, advanced, now)
        # What is before the window comes over a stream: no datagram could repair it.
        if ack.has_gap and self._last_base > max(ack.have, self._window.start):
            self._repair_at = now
        if self._acked == self._sent_until and not self._is_end_sent:
            self.policy.nothing_unacked()
        if ack.is_complete:
            self.is_finished = True
            yield Finished()
            return
        yield from self._open_catch_up(now, 1 if was_silent else _CATCH_UP_PAYLOADS)

    def _take_times(self, ack: Ack, advanced: bool, now: float) -> Iterator[ReaderAdvanced]:
        sent_at = self._sent_at.get(ack.newest)
        if sent_at is None:
            return
        claimed_s = ack.held_us * _SECONDS
        held_s = min(claimed_s, _MAX_HELD_S, now - sent_at)
        was_clamped = claimed_s > held_s
        self.round_trip.add(now - sent_at - held_s, now)
        received = ack.received_us * _SECONDS
        if not was_clamped:  # or the round trip would seem the shortest of all, for a long while
            self._clock_offset.add(sent_at, received, received + held_s, now)
        if not advanced:
            return
        claimed = self._clock_offset.to_local(received)
        delivered_at = min(max(claimed, sent_at), now)
        if self._clock_offset.is_known:
            moved_s = abs(delivered_at - claimed)
            was_clamped |= moved_s > self._clock_offset.uncertainty_s + _CLOCK_STEP_S
        rendered_at = None
        if ack.rendered_us is not None:
            rendered = delivered_at + ack.rendered_us * _SECONDS
            rendered_at = min(rendered, now)
            was_clamped |= ack.rendered_us > ack.held_us
        yield ReaderAdvanced(self._acked, sent_at, delivered_at, rendered_at, was_clamped)
