"""What gateway and replica say to each other on the data plane.

One ZeroMQ message holds one of these as MessagePack. Neither side trusts the other's counting:
offsets and totals travel along and are checked.
"""

import msgspec

from headstart.cluster.engine import EngineLoad, EngineRequest
from headstart.stages.errors import ProtocolViolation
from headstart.stages.failure import Failure
from headstart.stages.mirror import Part
from headstart.stages.speculation_counts import SpeculationCounts

__all__ = [
    "PROTOCOL_VERSION",
    "Abort",
    "Acknowledge",
    "Attach",
    "Bye",
    "Cancel",
    "Confirm",
    "Kept",
    "Open",
    "Opened",
    "Ping",
    "Pong",
    "Render",
    "Reply",
    "Step",
    "Submit",
    "ToGateway",
    "ToReplica",
    "Warm",
    "decode_to_gateway",
    "decode_to_replica",
    "encode",
]

PROTOCOL_VERSION = 4


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Open(_Message, frozen=True):
    """First message of a gateway."""

    version: int
    window_bytes: int
    """Most log bytes the gateway wants in flight."""
    sent: float
    """Gateway's monotonic clock, seconds: the link's first clock sample."""


class Submit(_Message, frozen=True):
    """Serve a request; `stream` is the number its parts will carry."""

    stream: int
    request: EngineRequest
    is_detached: bool
    """Whether the answer goes on when the gateway is gone."""
    logged: bytes = b""
    """The log of the answer so far, where another replica had begun it."""


class Attach(_Message, frozen=True):
    """Mirror a stream begun earlier, from a cursor on."""

    stream: int
    stream_id: str
    after: int


class Abort(_Message, frozen=True):
    """Stop computing an answer."""

    stream_id: str


class Confirm(_Message, frozen=True):
    """The whole log has arrived; the replica may drop its copy."""

    stream_id: str


class Acknowledge(_Message, frozen=True):
    """Running total of log bytes received on this link."""

    total_bytes: int


class Ping(_Message, frozen=True):
    sent: float
    """Gateway's monotonic clock, seconds."""


class Render(_Message, frozen=True):
    """Ask for the token ids of a request's prompt."""

    call: int
    request: EngineRequest


class Warm(_Message, frozen=True):
    """Ask for a prompt to be computed into the prefix cache."""

    call: int
    tokens: list[int]
    cache_salt: str | None
    model: str | None


class Cancel(_Message, frozen=True):
    """Stop a `Render` or `Warm` call; it is not answered."""

    call: int


class Bye(_Message, frozen=True):
    """Either side's last message: what it had under way on this link is over."""

    reason: str


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """A detached answer that a replica has: live, or finished and not expired."""

    stream_id: str
    log_end: int
    """Cursor after its last record."""
    is_live: bool
    request: EngineRequest | None = None
    """What made a live one, for making it again."""


class Opened(_Message, frozen=True):
    """Answer to `Open`."""

    version: int
    model: str
    max_model_len: int
    block_size: int
    sent: float
    received: float
    replied: float
    """As in `Pong`."""
    kept: list[Kept] = []
    speculation: str | None = None
    """As in `EngineInfo`."""


class Step(_Message, frozen=True):
    """What one engine step added to all of this gateway's streams."""

    parts: list[Part]
    load: EngineLoad


class Pong(_Message, frozen=True):
    sent: float
    received: float
    replied: float
    """Replica's monotonic clock, seconds, as `received`."""
    load: EngineLoad
    """Here too: the engine may come to rest without another step."""
    speculation: SpeculationCounts | None = None
    """None where the engine does not speculate."""


class Reply(_Message, frozen=True):
    """Answer to a call."""

    call: int
    tokens: list[int]
    """Rendered ids; of a `Warm` call, how many were cached, and how many microseconds it took."""
    failure: Failure | None = None


ToReplica = (
    Bye | Open | Submit | Attach | Abort | Confirm | Acknowledge | Ping | Render | Warm | Cancel
)
ToGateway = Bye | Opened | Step | Pong | Reply

_encoder = msgspec.msgpack.Encoder()
_to_replica = msgspec.msgpack.Decoder(ToReplica)
_to_gateway = msgspec.msgpack.Decoder(ToGateway)


def encode(message: _Message) -> bytes:
    """Encode either side's message."""
    return _encoder.encode(message)


def decode_to_replica(data: bytes) -> ToReplica:
    """Decode what a gateway sent.

    Raises:
        ProtocolViolation: It is no such message.
    """
    try:
        message: ToReplica = _to_replica.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolViolation(f"malformed message from a gateway: {error}") from error
    return message


def decode_to_gateway(data: bytes) -> ToGateway:
    """Decode what a replica sent.

    Raises:
        ProtocolViolation: It is no such message.
    """
    try:
        message: ToGateway = _to_gateway.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolViolation(f"malformed message from a replica: {error}") from error
    return message
