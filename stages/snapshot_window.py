"""The un-acknowledged end of a token log, ready to be cut into datagrams.

Every record is coded once; a snapshot is a slice of those codes. What to send and when is the
sender's business.
"""

from bisect import bisect_left, bisect_right

from headstart.stages.frames import record_bounds
from headstart.stages.record_cut import last_cut
from headstart.stages.token_log import TokenLog
from headstart.stages.wire import encode_item, encode_slice, slice_overhead

__all__ = ["SnapshotWindow"]

_FORGET_RECORDS = 256
"""Confirmed records are dropped in batches, so that dropping costs next to nothing."""


class SnapshotWindow:
    """Coded records of one log, between two cursors.

    Args:
        have: The reader's cursor.

    Raises:
        BadRequest: The cursor is none of the log's.
    """

    __slots__ = ("_bounds", "_codes", "_ends", "_log", "_references")

    def __init__(self, log: TokenLog, have: int) -> None:
        self._log = log
        self.restart(log.check_cursor(have))

    def restart(self, start: int) -> None:
        """Forget everything and mirror the log from a record's cursor on."""
        self._codes = bytearray()
        self._bounds = [start]
        """Cursor before each record, then after the last."""
        self._ends = [0]
        """The same in coded bytes."""
        self._references = [0]
        """Reference time with which each record was coded, then for the next."""

    @property
    def start(self) -> int:
        """Cursor of the first record that can still be sent."""
        return self._bounds[0]

    @property
    def end(self) -> int:
        """Cursor after the last record taken from the log."""
        return self._bounds[-1]

    def extend(self, until: int) -> None:
        """Take records that the log has gained, up to about a cursor."""
        base = self.end
        room = until - base
        if self._log.end == base or room <= 0:
            return
        data, reference = self._log.read(base, room), self._references[-1]
        first = 0
        for _, stop in record_bounds(data):
            item, reference = encode_item(data[first:stop], reference)
            first = stop
            self._codes += item
            self._bounds.append(base + stop)
            self._ends.append(len(self._codes))
            self._references.append(reference)

    def forget(self, before: int) -> None:
        """Drop records that end at or before a cursor, at some time."""
        count = bisect_right(self._bounds, before) - 1
        if count < _FORGET_RECORDS:
            return
        gone = self._ends[count]
        del self._codes[:gone]
        del self._bounds[:count], self._references[:count]
        self._ends = [end - gone for end in self._ends[count:]]

    def coded_bytes(self, base: int) -> int:
        """Coded size of the records that end after a cursor, in bytes."""
        return self._ends[-1] - self._ends[self._record_at(base)]

    def tip(self, room: int, not_after: int) -> int:
        """Lowest base from which everything fits `room` bytes; `not_after` where none is lower."""
        index = bisect_left(self._ends, self._ends[-1] - room)
        return min(self._bounds[index], not_after)

    def take(self, base: int, room: int) -> tuple[int, bytes, int]:
        """Cut the items of one datagram.

        Args:
            base: From `start` to `end`; may lie inside a record.
            room: Most bytes of items; at least 16.

        Returns:
            `(reference in microseconds, items, cursor reached)`. Whole records where they fit; a
            record is cut only where nothing else would be sent.
        """
        index = self._record_at(base)
        head = b""
        if self._bounds[index] < base:
            head, reached = self._part(index, base, room)
            if reached < self._bounds[index + 1]:
                return 0, head, reached
            index += 1
        first = self._ends[index]
        last = bisect_right(self._ends, first + room - len(head)) - 1
        if last == index and not head and base < self.end:
            part, reached = self._part(index, base, room)
            return 0, part, reached
        items = head + bytes(self._codes[first : self._ends[last]])
        return self._references[index], items, self._bounds[last]

    def _record_at(self, cursor: int) -> int:
        return bisect_right(self._bounds, cursor) - 1

    def _part(self, index: int, base: int, room: int) -> tuple[bytes, int]:
        start, stop = self._bounds[index : index + 2]
        record = self._log.read(start, 1)
        limit = base - start + room - slice_overhead(room)
        cut = stop if start + limit >= stop else start + last_cut(record, limit)
        return encode_slice(record[base - start : cut - start]), cut
