"""What a metric's label may say: closed enums, and where each word comes from.

A label takes values of an enum or the names of configured models. An id, a key or anything else
a client typed is never a label, because each value is a series that Prometheus keeps.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from headstart.stages import errors
from headstart.stages.errors import ClientError, HeadstartError

__all__ = [
    "AckOutcome",
    "CarrierKind",
    "Fallback",
    "FinishReason",
    "Handshake",
    "Label",
    "Outcome",
    "PacketOutcome",
    "Refusal",
    "ReplicaState",
    "Rescue",
    "ResumeOutcome",
    "Route",
    "StepKind",
    "StreamState",
    "Way",
]


class Route(StrEnum):
    """What a request asks for."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSE = "response"
    LIVE = "live"
    """A prompt that was sent as it was typed."""
    STREAM = "stream"
    """An existing stream, by its id: resume, timing, cancel."""
    OTHER = "other"
    """What an engine answers without generating: embeddings, tokens."""


class StepKind(StrEnum):
    """What a decoding step computed."""

    PLAIN = "plain"
    """One token a request."""
    VERIFY = "verify"
    """A draft of at least one request besides."""
    MIXED = "mixed"
    """Prompts besides, with drafts or without."""


class Outcome(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    CLIENT_ERROR = "client_error"
    ENGINE_ERROR = "engine_error"
    CANCELLED = "cancelled"
    """By the client: it hung up or asked for it."""

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Return whose fault `error` is: the client's by the error tree, else ours."""
        return cls.CLIENT_ERROR if isinstance(error, ClientError) else cls.ENGINE_ERROR


class Refusal(StrEnum):
    """Why the gateway itself turned a request or a connection away."""

    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    """No such route, method, model or stream."""
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    RATE_LIMITED = "rate_limited"
    """The key's own limits."""
    OVERLOADED = "overloaded"
    """Places for answers, or memory for logs."""
    CONNECTIONS = "connections"
    """Too many of them are open."""
    NO_REPLICA = "no_replica"

    @classmethod
    def of(cls, error: HeadstartError) -> "Refusal | None":
        """Return why `error` refuses; None if it is a failure and no refusal."""
        for kind, refusal in _REFUSALS.items():
            if isinstance(error, kind):
                return refusal
        return None


# The narrower class first.
_REFUSALS: dict[type[HeadstartError], Refusal] = {
    errors.BadRequest: Refusal.MALFORMED,
    errors.LiveRefused: Refusal.MALFORMED,
    errors.Unauthenticated: Refusal.UNAUTHENTICATED,
    errors.Forbidden: Refusal.FORBIDDEN,
    errors.NotFound: Refusal.NOT_FOUND,
    errors.PayloadTooLarge: Refusal.TOO_LARGE,
    errors.HeadTooLarge: Refusal.TOO_LARGE,
    errors.RequestTimeout: Refusal.TOO_SLOW,
    errors.RateLimited: Refusal.RATE_LIMITED,
    errors.Overloaded: Refusal.OVERLOADED,
    errors.EngineUnavailable: Refusal.NO_REPLICA,
}


class FinishReason(StrEnum):
    """Why one choice of an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    ABORT = "abort"
    ERROR = "error"
    OTHER = "other"

    @classmethod
    def of(cls, reason: str) -> Self:
        """Return the member that an engine's word names; `OTHER` for a word of its own."""
        try:
            return cls(reason)
        except ValueError:
            return cls.OTHER


class Rescue(StrEnum):
    """What became of a detached answer whose replica or link was lost."""

    TAKEN_UP = "taken_up"
    """The replica lived; its log is read on."""
    MOVED = "moved"
    """Another replica, or the same one restarted, was asked to go on with it."""
    REFUSED = "refused"
    """It was asked, and could not go on exactly."""
    GIVEN_UP = "given_up"
    """No replica in time, or too many lost: the reader is told to ask again."""


class StreamState(StrEnum):
    """Of a token log in the gateway."""

    LIVE = "live"
    FINISHED = "finished"
    """Complete, and kept for readers until it expires."""


class ReplicaState(StrEnum):
    """Of a replica, as the gateway sees it. `UP` ones are among the `KNOWN`."""

    UP = "up"
    """Connected and answering."""
    KNOWN = "known"
    """Published by the control plane."""


class CarrierKind(StrEnum):
    """What a QUIC connection speaks."""

    PLAIN = "plain"
    """Our own protocol name: native clients."""
    WEBTRANSPORT = "webtransport"
    """Browsers."""


class AckOutcome(StrEnum):
    """What became of a datagram that a reader sent."""

    ACCEPTED = "accepted"
    CLAMPED = "clamped"
    """Accepted, and its times were impossible."""
    REFUSED = "refused"
    """It claims what was never sent."""
    LIMITED = "limited"
    """There were too many."""
    MALFORMED = "malformed"
    """Not an acknowledgement of this version."""


class Handshake(StrEnum):
    """What became of a connection that was not simply let in."""

    ASKED_TO_PROVE = "asked_to_prove"
    """Its address, by a token: many were half open."""
    REFUSED = "refused"
    """There was no room for it."""


class PacketOutcome(StrEnum):
    """What QUIC says of a packet to a reader."""

    CONFIRMED = "confirmed"
    LOST = "lost"


class Way(StrEnum):
    """How a reader gets an answer."""

    SSE = "sse"
    QUIC = "quic"


class Fallback(StrEnum):
    """Why an answer went over a reliable stream instead of datagrams."""

    NO_DATAGRAMS = "no_datagrams"
    """The peer takes none, or by `quic.scheme` nobody gets any."""
    HEAVY_LOSS = "heavy_loss"
    SILENCE = "silence"
    """Nothing is confirmed at all."""
    UNANSWERED = "unanswered"
    """Packets are confirmed, but datagrams or the reader's acknowledgements do not get through."""


class ResumeOutcome(StrEnum):
    """What became of a reader that came for an answer that was asked for elsewhere."""

    JOINED = "joined"
    """At the answer's beginning, beside its event stream: every ordinary one of our clients."""
    CLIMBED = "climbed"
    """From an event stream to datagrams, in the middle of the answer."""
    RESUMED = "resumed"
    """After a loss, or without saying why."""
    REFUSED = "refused"
    """Unknown, expired or another's stream, or not one of its cursors."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label name and the only values it can take."""

    name: str
    values: tuple[str, ...] | None = None
    """None if they are given to `Metrics` when it is made: model names, version."""
