"""What a metric's label may say: closed enums, and where each word comes from.

A label takes values of an enum or the names of configured models. An id, a key or anything else
a client typed is never a label, because each value is a series that Prometheus keeps.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from headstart.stages.errors import ClientError

__all__ = ["FinishReason", "Label", "Outcome", "ReplicaState", "Route", "StreamState"]


class Route(StrEnum):
    """What a request asks for."""

    CHAT = "chat"
    COMPLETION = "completion"
    STREAM = "stream"
    """An existing stream, by its id: resume, timing, cancel."""
    OTHER = "other"


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


@dataclass(frozen=True, slots=True)
class Label:
    """A label name and the only values it can take."""

    name: str
    values: tuple[str, ...] | None = None
    """None if they are given to `Metrics` when it is made: model names, version."""
