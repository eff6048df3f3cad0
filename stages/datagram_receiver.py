"""Reads one token log from datagrams and catch-up bytes, in any order and any number.

The machine holds the log's bytes as far as they are complete and hands each on once. It never
shows a byte that it is not sure of: overlaps are compared, and the end is checked by its digest.
"""

from headstart.stages.datagram_events import (
    Attach,
    Complete,
    PathQuiet,
    ReceiverAction,
    ReceiverEvent,
    Render,
    Rendered,
    SendAck,
    SnapshotReceived,
)
from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import LENGTH_BYTES
from headstart.stages.varint import pull_varint
from headstart.stages.wire import Ack, Piece, Snapshot, encode_ack, log_digest

__all__ = ["DatagramReceiver"]

_ACK_INTERVAL_S = 0.01
"""At most one acknowledgement in this time; the first of a pause leaves at once."""
_PING_S = 1.0
"""After so long without a datagram the cursor is said again; the sender's is repeated every 1 s."""
_QUIET_S = 3.0
"""Three of the sender's heartbeats, and its patience with a path."""
_MAX_WAITING_BYTES = 1 << 20
"""Bytes past a gap that are kept; what does not fit comes again."""


class DatagramReceiver:
    """Reader's side of one answer.

    Args:
        stream: The session's number for it.
        log: Bytes that the reader has from an earlier session: whole records or part of one.
    """

    def __init__(self, stream: int, log: bytes = b"") -> None:
        self.stream = stream
        self.is_complete = False
        self._log = bytearray(log)
        self._shown = 0
        self._find_shown()
        self._waiting: dict[int, bytes] = {}
        self._waiting_bytes = 0
        self._end: tuple[int, bytes] | None = None
        self._newest = self._num_received = 0
        self._seen_bits = 0
        self._newest_at: float | None = None
        self._rendered_at: float | None = None
        self._awaits_render = False
        self._started_at: float | None = None
        self._last_ack_at = float("-inf")
        self._is_ack_due = False
        self._last_heard_at: float | None = None
        self._num_pings = 0
        self._is_quiet = False

    @property
    def have(self) -> int:
        """Cursor up to which everything is here."""
        return len(self._log)

    @property
    def shown(self) -> int:
        """Cursor up to which whole records were handed on."""
        return self._shown

    @property
    def log(self) -> bytes:
        """The token log as far as it is here; another session can go on from it."""
        return bytes(self._log)

    def read(self, after: int) -> bytes:
        """Return the whole records past a cursor."""
        return bytes(self._log[after : self._shown])

    def feed(self, event: ReceiverEvent, now: float) -> list[ReceiverAction]:
        """Take one event.

        Raises:
            ProtocolViolation: The sender contradicts itself, or the digest is wrong.
        """
        if self._started_at is None:
            self._started_at = self._last_heard_at = now
        actions: list[ReceiverAction] = []
        if isinstance(event, Attach):
            self._is_ack_due, self._last_ack_at = True, float("-inf")
        elif isinstance(event, Rendered):
            if self._awaits_render and event.cursor >= self._shown:
                self._awaits_render, self._rendered_at = False, now
        else:
            self._heard(now)
            if isinstance(event, SnapshotReceived):
                self._count(event.snapshot.number, now)
                pieces: tuple[Piece, ...] = event.snapshot.pieces
                self._take_end(event.snapshot)
            else:
                pieces = (event.piece,)
            actions += self._take(pieces)
            self._is_ack_due = True
            # A shell that shows text at once says so before the acknowledgement is built.
            return actions + self._complete() + ([] if actions else self.expire(now))
        return actions + self.expire(now)

    def deadline(self) -> float | None:
        """When an acknowledgement is due, or the path has been quiet for too long."""
        if self._is_ack_due:
            return self._last_ack_at + _ACK_INTERVAL_S
        if self.is_complete or self._last_heard_at is None:
            return None
        quiet_at = float("inf") if self._is_quiet else self._last_heard_at + _QUIET_S
        return min(quiet_at, self._last_heard_at + _PING_S * (self._num_pings + 1))

    def expire(self, now: float) -> list[ReceiverAction]:
        """Do what is due."""
        actions: list[ReceiverAction] = []
        if not self.is_complete and self._last_heard_at is not None:
            if now >= self._last_heard_at + _PING_S * (self._num_pings + 1):
                self._num_pings += 1
                self._is_ack_due = True
            if now >= self._last_heard_at + _QUIET_S and not self._is_quiet:
                self._is_quiet = True
                actions.append(PathQuiet())
        if self._is_ack_due and now >= self._last_ack_at + _ACK_INTERVAL_S:
            self._is_ack_due, self._last_ack_at = False, now
            actions.append(SendAck(encode_ack(self._ack(now))))
        return actions

    def _heard(self, now: float) -> None:
        self._last_heard_at, self._num_pings, self._is_quiet = now, 0, False

    def _count(self, number: int, now: float) -> None:
        """Count different datagrams, by a bit for each of the last 1,024 numbers."""
        if number > self._newest:
            self._seen_bits = self._seen_bits << min(number - self._newest, 1024) | 1
            self._seen_bits &= (1 << 1024) - 1
            self._newest, self._newest_at, self._rendered_at = number, now, None
            self._num_received += 1
        elif number > 0 and (age := self._newest - number) < 1024:
            bit = 1 << age
            self._num_received += not self._seen_bits & bit
            self._seen_bits |= bit

    def _take_end(self, snapshot: Snapshot) -> None:
        if snapshot.digest is None:
            return
        end = (snapshot.pieces[-1].stop, snapshot.digest)
        if self._end not in (None, end) or end[0] < self.have:
            raise ProtocolViolation("the answer ends in two places")
        self._end = end

    def _take(self, pieces: tuple[Piece, ...]) -> list[ReceiverAction]:
        before = self.have
        for piece in pieces:
            self._add(piece)
        while self._waiting and (start := min(self._waiting)) <= self.have:
            data = self._waiting.pop(start)
            self._waiting_bytes -= len(data)
            self._add(Piece(start, data))
        if self.have == before:
            return []
        if self._end is not None and self.have > self._end[0]:
            raise ProtocolViolation("the answer goes on past its end")
        start = self._shown
        self._find_shown()
        self._awaits_render = True
        records = bytes(self._log[start : self._shown])
        return [Render(start, records)]

    def _add(self, piece: Piece) -> None:
        if piece.start > self.have:
            self._keep_waiting(piece)
            return
        overlap = self.have - piece.start
        if bytes(self._log[piece.start : piece.stop]) != piece.data[:overlap]:
            raise ProtocolViolation("a datagram contradicts an earlier one")
        self._log += piece.data[overlap:]

    def _keep_waiting(self, piece: Piece) -> None:
        kept = self._waiting.get(piece.start, b"")
        grown = len(piece.data) - len(kept)
        if grown > 0 and self._waiting_bytes + grown <= _MAX_WAITING_BYTES:
            self._waiting[piece.start] = piece.data
            self._waiting_bytes += grown

    def _find_shown(self) -> None:
        """Move to the cursor after the last whole record."""
        log, position = self._log, self._shown
        while (found := pull_varint(log, position, LENGTH_BYTES)) is not None:
            size, start = found
            if start + size > len(log):
                break
            position = start + size
        self._shown = position

    def _complete(self) -> list[ReceiverAction]:
        if self._end is None or self.is_complete or self.have < self._end[0]:
            return []
        if log_digest(self._log) != self._end[1]:
            raise ProtocolViolation("the answer's digest is wrong")
        if self._shown != self.have:
            raise ProtocolViolation("the answer ends inside a record")
        self.is_complete = True
        return [Complete()]

    def _ack(self, now: float) -> Ack:
        started_at = now if self._started_at is None else self._started_at
        newest_at = now if self._newest_at is None else self._newest_at
        rendered_at = self._rendered_at
        return Ack(
            self.stream,
            self.have,
            self._newest,
            self._num_received,
            max(0, round((newest_at - started_at) * 1e6)),
            max(0, round((now - newest_at) * 1e6)),
            None if rendered_at is None else max(0, round((rendered_at - newest_at) * 1e6)),
            has_gap=bool(self._waiting),
            is_complete=self.is_complete,
        )
