"""What a datagram says, and its bytes (docs/adr/0004).

A snapshot carries a run of token-log bytes, from a cursor on; an acknowledgement carries the
cursor its reader has reached. Inside a snapshot, frames travel in a shorter coding than the log's
and come out as the log's own bytes, so sender and reader mean the same thing by a cursor.

Sizes, pacing and what to send are not decided here.
"""

from dataclasses import dataclass
from hashlib import sha256

import msgspec

from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import Channel, Frame, decode_frame, encode, record_bounds
from headstart.stages.varint import pull_varint, put_varint, varint_bytes

__all__ = [
    "DIGEST_BYTES",
    "WIRE_VERSION",
    "Ack",
    "Piece",
    "Snapshot",
    "decode_datagram",
    "encode_ack",
    "encode_item",
    "encode_slice",
    "encode_snapshot",
    "log_digest",
    "max_snapshot_overhead",
    "slice_overhead",
]

WIRE_VERSION = 1
"""Upper half of a datagram's first byte; a peer refuses any other."""

DIGEST_BYTES = 8
"""First bytes of SHA-256 over the whole token log, sent with its end."""

_SNAPSHOT, _LAST_SNAPSHOT, _ACK = range(3)
_MAX_NUMBER = (1 << 63) - 1

_SLICE = 0x80
_CHANNEL = 0x03
_HAS_CHOICE = 0x04
_HAS_COUNT = 0x08
_TEXT_SHIFT = 4
_LONG_TEXT = 7
"""Texts of up to six bytes have their length in the item's first byte."""

_HAS_GAP, _IS_COMPLETE, _HAS_RENDERED = 1, 2, 4


def log_digest(log: bytes | bytearray) -> bytes:
    """What is sent with the end of a log, for its reader to check."""
    return sha256(log).digest()[:DIGEST_BYTES]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of token-log bytes."""

    start: int
    """Cursor of the first byte."""
    data: bytes

    @property
    def stop(self) -> int:
        """Cursor after the last byte."""
        return self.start + len(self.data)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Sender to reader: every piece can be shown by a reader that has reached its start."""

    stream: int
    """The session's own number for the stream."""
    number: int
    """Of this datagram, counted from 1 within the stream."""
    pieces: tuple[Piece, ...]
    """One; several only under the published rule, whose acknowledgements leave holes."""
    digest: bytes | None = None
    """`DIGEST_BYTES` of the whole log, where the last piece ends with it."""


@dataclass(frozen=True, slots=True)
class Ack:
    """Reader to sender. Its claims are not to be trusted."""

    stream: int
    have: int
    """Cursor up to which the reader has everything."""
    newest: int = 0
    """Highest number among the datagrams received; 0 where none was."""
    num_received: int = 0
    """Different datagrams received."""
    received_us: int = 0
    """When the newest was received, on the reader's clock, in microseconds."""
    held_us: int = 0
    """From then to the sending of this acknowledgement."""
    rendered_us: int | None = None
    """From then until its text was shown; None where it was not, or not yet."""
    has_gap: bool = False
    """Whether bytes past `have` are waiting for bytes in between."""
    is_complete: bool = False
    """Whether the reader has the whole answer and has checked it."""


class _Reader:
    """Takes values from the front of a datagram."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 1

    @property
    def is_done(self) -> bool:
        return self.position == len(self.data)

    def byte(self) -> int:
        if self.position >= len(self.data):
            raise ProtocolViolation("a datagram ends too early")
        value = self.data[self.position]
        self.position += 1
        return value

    def varint(self) -> int:
        position, data = self.position, self.data
        if position < len(data) and data[position] < 0x80:
            self.position = position + 1
            return data[position]
        found = pull_varint(data, position)
        if found is None:
            raise ProtocolViolation("a datagram ends too early")
        value, self.position = found
        return value

    def take(self, size: int) -> bytes:
        start, stop = self.position, self.position + size
        if stop > len(self.data):
            raise ProtocolViolation("a datagram ends too early")
        self.position = stop
        return self.data[start:stop]


def encode_item(record: bytes, reference_us: int) -> tuple[bytes, int]:
    """Encode one whole record of a token log, length prefix included.

    Args:
        reference_us: `at_us` of the last frame that was coded short; 0 before the first.

    Returns:
        The item and the reference for the next one. A record that has no short form, or would not
        come back byte for byte, travels verbatim and leaves the reference as it is.
    """
    frame = _short_form_of(record, reference_us)
    if frame is None:
        return encode_slice(record), reference_us
    text = frame.text.encode()
    num_tokens = len(frame.tokens)
    length = min(len(text), _LONG_TEXT)
    head = frame.channel | length << _TEXT_SHIFT
    item = bytearray((head,))
    if frame.choice:
        item[0] |= _HAS_CHOICE
        item += put_varint(frame.choice)
    item += put_varint(frame.at_us - reference_us)
    if num_tokens != 1:
        item[0] |= _HAS_COUNT
        item += put_varint(num_tokens)
    for token in frame.tokens:
        item += put_varint(token)
    if length == _LONG_TEXT:
        item += put_varint(len(text) - _LONG_TEXT)
    return bytes(item + text), frame.at_us


def _short_form_of(record: bytes, reference_us: int) -> Frame | None:
    try:
        ((start, stop),) = record_bounds(record)
        frame = decode_frame(record[start:stop])
    except ProtocolViolation:
        return None  # the header, or what a reader shall refuse as the log's own readers do
    numbers = (frame.choice, frame.at_us - reference_us, frame.at_us, *frame.tokens)
    if frame.payload is not None or min(numbers) < 0 or max(numbers) > _MAX_NUMBER:
        return None
    return frame if encode(frame) == record else None


def encode_slice(data: bytes) -> bytes:
    """Encode token-log bytes that travel verbatim; they may begin and end inside a record."""
    return bytes((_SLICE,)) + put_varint(len(data)) + data


def slice_overhead(room: int) -> int:
    """Most bytes that `encode_slice` adds to a slice that shall fit `room` bytes."""
    return 1 + varint_bytes(room)


def encode_snapshot(
    stream: int,
    number: int,
    runs: list[tuple[int, int, bytes]],
    digest: bytes | None = None,
) -> bytes:
    """Encode a snapshot.

    Args:
        runs: `(start cursor, reference in microseconds, items)` for each piece, at least one. All
            but the last say how long they are.
        digest: Set where the last run ends with the log.
    """
    kind = _SNAPSHOT if digest is None else _LAST_SNAPSHOT
    out = bytearray((WIRE_VERSION << 4 | kind,))
    out += put_varint(stream) + put_varint(number)
    out += digest or b""
    out += put_varint(len(runs) - 1)
    for start, reference_us, items in runs[:-1]:
        out += put_varint(start) + put_varint(reference_us) + put_varint(len(items)) + items
    start, reference_us, items = runs[-1]
    return bytes(out + put_varint(start) + put_varint(reference_us) + items)


def max_snapshot_overhead(stream: int, number: int, base: int) -> int:
    """Most bytes that `encode_snapshot` adds to the items of a single run."""
    varints = varint_bytes(stream) + varint_bytes(number) + varint_bytes(base)
    return 1 + varints + 1 + DIGEST_BYTES + 9


def encode_ack(ack: Ack) -> bytes:
    """Encode an acknowledgement: about twenty bytes."""
    flags = _HAS_GAP * ack.has_gap | _IS_COMPLETE * ack.is_complete
    flags |= _HAS_RENDERED * (ack.rendered_us is not None)
    values = (ack.stream, ack.have, ack.newest, ack.num_received, ack.received_us, ack.held_us)
    out = bytes((WIRE_VERSION << 4 | _ACK, flags)) + b"".join(map(put_varint, values))
    return out if ack.rendered_us is None else out + put_varint(ack.rendered_us)


def decode_datagram(data: bytes) -> Snapshot | Ack:
    """Decode either kind of datagram.

    Raises:
        ProtocolViolation: The bytes are not a datagram of this version.
    """
    if not data or data[0] >> 4 != WIRE_VERSION:
        raise ProtocolViolation("not a datagram of this version")
    kind = data[0] & 0x0F
    reader = _Reader(data)
    if kind == _ACK:
        return _decode_ack(reader)
    if kind in (_SNAPSHOT, _LAST_SNAPSHOT):
        return _decode_snapshot(reader, has_digest=kind == _LAST_SNAPSHOT)
    raise ProtocolViolation(f"a datagram of unknown kind {kind}")


def _decode_ack(reader: _Reader) -> Ack:
    flags = reader.byte()
    stream, have, newest, num_received, received_us, held_us = (reader.varint() for _ in range(6))
    rendered_us = reader.varint() if flags & _HAS_RENDERED else None
    if flags > 7 or not reader.is_done or num_received > newest:
        raise ProtocolViolation("malformed acknowledgement")
    return Ack(
        stream,
        have,
        newest,
        num_received,
        received_us,
        held_us,
        rendered_us,
        has_gap=bool(flags & _HAS_GAP),
        is_complete=bool(flags & _IS_COMPLETE),
    )


def _decode_snapshot(reader: _Reader, has_digest: bool) -> Snapshot:
    stream, number = reader.varint(), reader.varint()
    digest = reader.take(DIGEST_BYTES) if has_digest else None
    pieces: list[Piece] = []
    for remaining in range(reader.varint(), -1, -1):
        start, reference_us = reader.varint(), reader.varint()
        size = reader.varint() if remaining else len(reader.data) - reader.position
        stop = reader.position + size
        if stop > len(reader.data):
            raise ProtocolViolation("a datagram ends too early")
        pieces.append(Piece(start, _decode_items(reader, stop, reference_us)))
    return Snapshot(stream, number, tuple(pieces), digest)


def _decode_items(reader: _Reader, stop: int, reference_us: int) -> bytes:
    out: list[bytes] = []
    while reader.position < stop:
        head = reader.byte()
        if head == _SLICE:
            out.append(reader.take(reader.varint()))
            continue
        if head > _SLICE:
            raise ProtocolViolation("an unknown item in a datagram")
        choice = reader.varint() if head & _HAS_CHOICE else 0
        reference_us += reader.varint()
        num_tokens = reader.varint() if head & _HAS_COUNT else 1
        if num_tokens > stop - reader.position:
            raise ProtocolViolation("more tokens than bytes in a datagram")
        tokens = tuple(reader.varint() for _ in range(num_tokens))
        length = head >> _TEXT_SHIFT
        if length == _LONG_TEXT:
            length += reader.varint()
        try:
            text = str(reader.take(length), "utf-8")
            out.append(encode(Frame(choice, Channel(head & _CHANNEL), text, tokens, reference_us)))
        except (UnicodeDecodeError, OverflowError, msgspec.MsgspecError) as error:
            raise ProtocolViolation(f"not a frame in a datagram: {error}") from error
    if reader.position != stop:
        raise ProtocolViolation("an item runs over the end of its piece")
    return b"".join(out)
