"""The records of a token log and their one encoding.

An answer is a log: one `StreamHeader`, then `Frame`s. A record is a varint length followed by
that many bytes of MessagePack (array form, so field order is the format). Cursors are byte
offsets into this encoding; only offsets between records are valid cursors.

Frames carry no JSON for a plain text delta, so an engine step costs fifteen bytes plus its text
(docs/adr/0001); `headstart.stages.sse` turns them back into the exact chunks that an OpenAI client
expects.
"""

from collections.abc import Iterator
from enum import IntEnum

import msgspec

from headstart.stages.errors import ProtocolViolation
from headstart.stages.varint import pull_varint, put_varint

__all__ = [
    "FORMAT_VERSION",
    "Channel",
    "Frame",
    "StreamHeader",
    "decode_frame",
    "decode_header",
    "encode",
    "record_bounds",
]

FORMAT_VERSION = 2
"""Raised whenever a record's fields change; a reader refuses any other."""

LENGTH_BYTES = 4
"""Most of a record's length prefix."""

MAX_RECORD_BYTES = 1 << 7 * LENGTH_BYTES
"""Far above any answer, low enough to stop a corrupt length."""


class Channel(IntEnum):
    """What a frame's text is."""

    CONTENT = 0
    REASONING = 1
    TOOL = 2
    EVENT = 3
    """No text of the answer: role, usage, error, end marker, or a whole response body."""


# Unknown fields are refused: a record of another format is no record, and skipping what it holds
# would recurse as deep as it is nested.
class StreamHeader(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False
):
    """The first record: what every later frame of the stream has in common."""

    status: int
    """HTTP status of the answer."""
    content_type: str
    """`text/event-stream` for streamed answers; anything else is a plain body."""
    api: str = ""
    """`chat`, `completion` or `responses` where frames can be rebuilt into events, else empty."""
    response_id: str = ""
    model: str = ""
    created: int = 0
    """Unix seconds, as the engine stamped it."""
    version: int = FORMAT_VERSION
    headers: tuple[tuple[str, str], ...] = ()
    """Further response headers that a client has to have, names in lower case."""

    @property
    def is_event_stream(self) -> bool:
        return self.content_type.startswith("text/event-stream")


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One delta of one choice; an engine step that yields several tokens is one frame."""

    choice: int
    channel: Channel
    text: str
    """UTF-8 delta, cut at code points only."""
    tokens: tuple[int, ...]
    """Token ids behind this delta. May be non-empty while `text` is empty (held back)."""
    at_us: int
    """Microseconds from the stream's start to this frame, on the replica's clock."""
    payload: bytes | None = None
    """The exact event payload or body bytes, where a plain delta does not say it all.

    In `responses`, whose events have names: the event's lines, or what its template lacks.
    """


_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(Frame)
_header_decoder = msgspec.msgpack.Decoder(StreamHeader)


def encode(record: StreamHeader | Frame) -> bytes:
    """Encode one record, length prefix included.

    Raises:
        ProtocolViolation: The record is longer than `MAX_RECORD_BYTES`.
    """
    body = _encoder.encode(record)
    size = len(body)
    if size >= MAX_RECORD_BYTES:
        raise ProtocolViolation(f"a record of {size} bytes does not fit a token log")
    return put_varint(size) + body


def record_bounds(data: bytes) -> Iterator[tuple[int, int]]:
    """Walk the records in `data`.

    Yields:
        `(body_start, body_end)` offsets into `data`; `body_end` is the cursor after the record.

    Raises:
        ProtocolViolation: `data` ends inside a record, or a length is malformed.
    """
    position, end = 0, len(data)
    while position < end:
        found = pull_varint(data, position, LENGTH_BYTES)
        if found is None:
            raise ProtocolViolation("token log ends inside a record's length")
        size, position = found
        if position + size > end:
            raise ProtocolViolation("token log ends inside a record")
        yield position, position + size
        position += size


def decode_frame(body: bytes | memoryview) -> Frame:
    """Decode a frame's body (no length prefix).

    Raises:
        ProtocolViolation: The bytes are not a frame.
    """
    try:
        return _frame_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolViolation(f"not a frame: {error}") from error


def decode_header(body: bytes | memoryview) -> StreamHeader:
    """Decode a header's body (no length prefix).

    Raises:
        ProtocolViolation: The bytes are not a header, or of another format version.
    """
    try:
        header = _header_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolViolation(f"not a stream header: {error}") from error
    if header.version != FORMAT_VERSION:
        raise ProtocolViolation(f"token log format {header.version}, expected {FORMAT_VERSION}")
    return header
