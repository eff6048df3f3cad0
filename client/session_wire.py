"""What a session says on its reliable streams (docs/transport.md): length-prefixed JSON messages.

Datagrams are `headstart.stages.wire`'s. A message is a varint length, as in a token log, and so
many bytes of JSON with a `type`.
"""

from enum import StrEnum
from typing import Any

import msgspec

from headstart.stages.errors import ProtocolViolation
from headstart.stages.varint import pull_varint, put_varint

__all__ = [
    "MAX_MESSAGE_BYTES",
    "VERSION",
    "WHY_HEADER",
    "Answer",
    "Drop",
    "End",
    "Hello",
    "Message",
    "MessageReader",
    "Request",
    "Why",
    "encode_catch_up",
    "encode_message",
]

VERSION = 1
"""Of the session; also in the ALPN name."""
MAX_MESSAGE_BYTES = 64 * 1024
WHY_HEADER = "x-headstart-why"
"""Of a request for an answer that was asked for before: why its reader comes, of `Why`."""


class Why(StrEnum):
    """Why a reader comes for an answer that was asked for elsewhere."""

    JOIN = "join"
    """It begins; its event stream does so beside."""
    CLIMB = "climb"
    """An event stream carries it, and datagrams are to."""
    RESUME = "resume"
    """Nothing carries it any more."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First on the control stream, from either side. Unknown fields are for later versions."""

    version: int = VERSION
    max_streams: int = 0
    """From the server: answers that one session may read at once."""
    max_body_bytes: int = 0
    """From the server: longest request body."""
    has_datagrams: bool = True
    """From the server: whether answers may come by datagrams, whose acknowledgements it wants."""


class Request(msgspec.Struct, frozen=True, tag="request", forbid_unknown_fields=True):
    """First on any other stream of a client's; the request's body follows to the stream's end."""

    method: str
    path: str
    """With its query, as in HTTP."""
    headers: tuple[tuple[str, str], ...] = ()
    number: int | None = None
    """Under which an answer's log shall be carried in datagrams; None wants a plain answer."""


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """First on such a stream from the server; the answer's body follows to the stream's end."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    is_carried: bool = False
    """The log is carried under the request's number, and there is no body."""


class Drop(msgspec.Struct, frozen=True, tag="drop", forbid_unknown_fields=True):
    """On the control stream: the client reads a log no longer. The answer goes on."""

    number: int


class End(msgspec.Struct, frozen=True, tag="end"):
    """On the control stream, once for each number: the log has ended, or is no longer carried."""

    number: int
    cursor: int
    """Where the log ends; where carrying ended, if `is_whole` is not set."""
    digest: str = ""
    """Of the whole log, in hex, if `is_whole` is set."""
    is_whole: bool = True
    error: dict[str, Any] | None = None
    """What OpenAI's clients know as `error`, if the answer did not end well."""


Message = Hello | Request | Answer | Drop | End

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """Encode one message, length prefix included."""
    body = msgspec.json.encode(message)
    return put_varint(len(body)) + body


def encode_catch_up(number: int, start: int) -> bytes:
    """Begin a stream of raw log bytes, from a cursor on."""
    return put_varint(number) + put_varint(start)


class MessageReader:
    """Takes messages from the front of a stream's bytes, as they come."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._buffer += data

    def next(self) -> Message | None:
        """Return the next whole message, or None.

        Raises:
            ProtocolViolation: The bytes are not messages, or one is too long.
        """
        head = pull_varint(self._buffer)
        if head is None:
            return None
        size, used = head
        if size > MAX_MESSAGE_BYTES:
            raise ProtocolViolation(f"a message of {size} bytes is too long")
        if len(self._buffer) < used + size:
            return None
        body = bytes(self._buffer[used : used + size])
        del self._buffer[: used + size]
        try:
            return _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolViolation(f"not a message: {error}") from error

    def rest(self) -> bytes:
        """Return what follows the last message, and forget it."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest
