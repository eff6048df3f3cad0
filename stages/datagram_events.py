"""What happens to the two ends of a datagram stream, and what they want done.

Events go into a machine's `feed`, actions come out of it. The machines themselves are
`datagram_sender`, `datagram_receiver` and, for comparison, `published_eloquent`.
"""

from dataclasses import dataclass
from enum import StrEnum

from headstart.stages.wire import Ack, Piece, Snapshot

__all__ = [
    "AckReceived",
    "Attach",
    "CarrierBlocked",
    "CarrierReady",
    "CatchUp",
    "CatchUpReceived",
    "Cause",
    "Complete",
    "Finished",
    "LogGrew",
    "PathChanged",
    "PathQuiet",
    "ReaderAdvanced",
    "ReceiverAction",
    "ReceiverEvent",
    "Render",
    "Rendered",
    "SendAck",
    "SenderAction",
    "SenderEvent",
    "SnapshotReceived",
    "Transmit",
]


class Cause(StrEnum):
    """Why a datagram was sent; values are metric label values."""

    NEW = "new"
    REPEAT = "repeat"
    PROBE = "probe"
    REPAIR = "repair"
    HEARTBEAT = "heartbeat"


@dataclass(frozen=True, slots=True)
class LogGrew:
    """Records were appended to the log, or it was closed."""


@dataclass(frozen=True, slots=True)
class AckReceived:
    """An acknowledgement of this stream came in."""

    ack: Ack


@dataclass(frozen=True, slots=True)
class CarrierBlocked:
    """The carrier takes nothing for now."""


@dataclass(frozen=True, slots=True)
class CarrierReady:
    """The carrier takes datagrams again."""


@dataclass(frozen=True, slots=True)
class PathChanged:
    """The reader is elsewhere in the network: what was known of the way to it says nothing."""


SenderEvent = LogGrew | AckReceived | CarrierBlocked | CarrierReady | PathChanged


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send this datagram now. A carrier that cannot take another says `CarrierBlocked` next."""

    datagram: bytes
    cause: Cause
    fresh_bytes: int
    """Log bytes in it that no earlier datagram carried; all else is redundancy."""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Send the log's bytes from `start` to `stop` over a reliable stream of their own."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ReaderAdvanced:
    """The reader has confirmed more. Times are seconds on the sender's clock."""

    cursor: int
    sent_at: float
    delivered_at: float
    rendered_at: float | None
    was_clamped: bool
    """Whether the reader's times were impossible and have been moved to what is possible."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The reader has everything; the machine is done."""


SenderAction = Transmit | CatchUp | ReaderAdvanced | Finished


@dataclass(frozen=True, slots=True)
class Attach:
    """Say where this reader is: the first thing on a session, and after any change of path."""


@dataclass(frozen=True, slots=True)
class SnapshotReceived:
    """A datagram of this stream came in."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class CatchUpReceived:
    """Bytes came in over a reliable stream."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class Rendered:
    """What `Render` handed on up to this cursor has been shown."""

    cursor: int


ReceiverEvent = Attach | SnapshotReceived | CatchUpReceived | Rendered


@dataclass(frozen=True, slots=True)
class Render:
    """New bytes of the log, each handed on exactly once."""

    start: int
    """Cursor of the first."""
    records: bytes
    """Whole records; may be empty where only a part of a long one is new."""


@dataclass(frozen=True, slots=True)
class SendAck:
    """Send this datagram now."""

    datagram: bytes


@dataclass(frozen=True, slots=True)
class Complete:
    """The whole log is here and its digest is right."""


@dataclass(frozen=True, slots=True)
class PathQuiet:
    """Nothing, not even a heartbeat, for three seconds: try another path, from the same cursor."""


ReceiverAction = Render | SendAck | Complete | PathQuiet
