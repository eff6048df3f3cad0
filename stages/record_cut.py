"""Where a record of a token log may be cut.

It is cut only where it is longer than a datagram: anywhere but inside a code point of its text. The
text is the third field of a frame, so a reader could show it before the rest has arrived.
"""

from headstart.stages.frames import MAX_RECORD_BYTES

__all__ = ["last_cut", "text_span"]

_FRAME_HEADS = range(0x95, 0x97)
"""MessagePack arrays of five or six fields: a frame without or with its payload."""


def text_span(record: bytes) -> tuple[int, int] | None:
    """Offsets of the text's first byte and of the byte after it, within the record.

    Args:
        record: A record from its length prefix on; it may end early.

    Returns:
        None where the record is not a frame or ends before its text begins.
    """
    try:
        position = 0
        while record[position] >= 0x80:
            position += 1
        if position > 3 or record[position + 1] not in _FRAME_HEADS:
            return None
        position = _after_integer(record, _after_integer(record, position + 2))
        head = record[position]
        if 0xA0 <= head < 0xC0:
            start, size = position + 1, head & 0x1F
        elif 0xD9 <= head <= 0xDB:
            width = 1 << (head - 0xD9)
            start = position + 1 + width
            if len(record) < start:
                return None
            size = int.from_bytes(record[position + 1 : start], "big")
        else:
            return None
    except IndexError:
        return None
    return (start, start + size) if size < MAX_RECORD_BYTES else None


def _after_integer(record: bytes, position: int) -> int:
    head = record[position]
    if 0xCC <= head <= 0xCF:
        return position + 1 + (1 << (head - 0xCC))
    if 0xD0 <= head <= 0xD3:
        return position + 1 + (1 << (head - 0xD0))
    return position + 1


def last_cut(record: bytes, stop: int) -> int:
    """Highest offset up to `stop` at which a record may be cut.

    Args:
        record: A whole record.
        stop: At most its length.
    """
    span = text_span(record)
    if span is None:
        return stop
    start, end = span
    # At most three steps: what is not UTF-8 is the reader's to refuse, not ours to hang on.
    for cut in range(stop, max(stop - 4, start - 1), -1):
        if cut >= end or record[cut] & 0xC0 != 0x80:
            return cut
    return stop
