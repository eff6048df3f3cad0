"""The append-only log of one answer.

Whoever makes tokens appends records; whoever carries them to a reader keeps a cursor and reads
from it. Resume, fan-out and fail-over are all the same act: read from a cursor.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from headstart.stages.errors import BadRequest, PayloadTooLarge, ProtocolViolation
from headstart.stages.frames import (
    Frame,
    StreamHeader,
    decode_frame,
    decode_header,
    encode,
    record_bounds,
)

__all__ = ["TokenLog"]


class TokenLog:
    """Encoded records of one stream, held in memory.

    Args:
        max_bytes: Most the log may hold; who asks for an answer that outgrows it is at fault.
    """

    __slots__ = ("_bounds", "_buffer", "_header", "is_closed", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._buffer = bytearray()
        self._bounds = array("I")
        """Cursor after each record, ascending."""
        self._header: StreamHeader | None = None
        self.max_bytes = max_bytes
        self.is_closed = False

    @property
    def end(self) -> int:
        """Cursor after the last record, in bytes."""
        return len(self._buffer)

    @property
    def header(self) -> StreamHeader | None:
        """The first record, once it is there."""
        return self._header

    @property
    def num_frames(self) -> int:
        """Records after the header."""
        return max(0, len(self._bounds) - 1)

    @property
    def header_end(self) -> int:
        """Cursor of the first frame; 0 while there is no header."""
        return self._bounds[0] if self._bounds else 0

    def append(self, record: StreamHeader | Frame) -> None:
        """Append one record.

        Raises:
            ProtocolViolation: The log is closed, or the header is missing or given twice.
            PayloadTooLarge: The log is full.
        """
        if isinstance(record, StreamHeader) != (self._header is None):
            raise ProtocolViolation("a token log is one header, then frames")
        data = encode(record)
        self._check_room(len(data))
        if isinstance(record, StreamHeader):
            self._header = record
        self._buffer += data
        self._bounds.append(len(self._buffer))

    def extend(self, data: bytes) -> None:
        """Append encoded whole records, as another log's `read` returned them.

        Frames are decoded, and refused, only when they are read.

        Raises:
            ProtocolViolation: The log is closed, `data` is not whole records, or the first record
                of the log is not a header.
            PayloadTooLarge: The log is full.
        """
        self._check_room(len(data))
        base = len(self._buffer)
        bounds = list(record_bounds(data))
        if self._header is None and bounds:
            first_start, first_end = bounds[0]
            self._header = decode_header(data[first_start:first_end])
        self._buffer += data
        self._bounds.extend(base + record_end for _, record_end in bounds)

    def _check_room(self, size: int) -> None:
        if self.is_closed:
            raise ProtocolViolation("append to a closed token log")
        if len(self._buffer) + size > self.max_bytes:
            raise PayloadTooLarge(
                f"the answer outgrew its log of {self.max_bytes} bytes: ask for less, such as "
                "fewer choices, logprobs, tokens or inputs"
            )

    def close(self) -> None:
        """Promise that nothing more will be appended. Idempotent."""
        self.is_closed = True

    def starts_with(self, data: bytes) -> bool:
        """Whether the log begins with exactly these bytes."""
        return self._buffer.startswith(data)

    def read(self, after: int, limit: int | None = None) -> bytes:
        """Return whole records from a cursor on.

        Args:
            after: A valid cursor.
            limit: Stop before exceeding this many bytes, but return at least one record if there
                is one.
        """
        if limit is None or self.end - after <= limit:
            return bytes(self._buffer[after:])
        stop = bisect_left(self._bounds, after + limit + 1) - 1
        if stop < 0 or self._bounds[stop] <= after:
            stop = bisect_left(self._bounds, after + 1)
        return bytes(self._buffer[after : self._bounds[stop]])

    def frames(self, after: int, limit: int | None = None) -> Iterator[tuple[int, Frame]]:
        """Yield `(cursor after the frame, frame)` for each frame from a cursor on.

        Cursor 0 means "from the first frame": the header is not a frame.

        Args:
            after: A valid cursor.
            limit: As for `read`.
        """
        after = after or self.header_end
        data = self.read(after, limit)
        for start, stop in record_bounds(data):
            yield after + stop, decode_frame(data[start:stop])

    def check_cursor(self, cursor: int) -> int:
        """Return `cursor` if a reader may start there.

        Raises:
            BadRequest: It lies past the end or inside a record.
        """
        if cursor == 0:
            return cursor
        index = bisect_left(self._bounds, cursor)
        if index == len(self._bounds) or self._bounds[index] != cursor:
            raise BadRequest(f"{cursor} is not a cursor of this stream", param="after")
        return cursor
