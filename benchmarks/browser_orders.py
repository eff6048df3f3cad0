"""What is said to the pages' end of a real link, and what it answers."""

from enum import StrEnum

import msgspec

__all__ = ["Arm", "Ask", "Drawn", "Open", "Shut"]


class Arm(StrEnum):
    """What is compared: the page at `/` in a browser with WebTransport, and in one without."""

    OURS = "datagrams"
    SSE = "SSE, TCP"


class Open(msgspec.Struct, tag=True):
    """Open pages, each with connections of its own; answered by their number."""

    arm: Arm
    url: str
    count: int
    is_warm: bool = True
    """Whether each has read an answer already, and so has a session where it can have one."""


class Shut(msgspec.Struct, tag=True):
    """Close an arm's pages; answered by `true`."""

    arm: Arm


class Ask(msgspec.Struct, tag=True):
    """Ask for an answer in every page of an arm, all at one time; answered by one `Drawn` each."""

    arm: Arm
    model: str
    at: float
    """On the monotonic clock."""
    patience_s: float
    first_prompt: int = 0
    """Each answer has a prompt of its own."""
    reload_after_s: list[float] = []
    """When every page is loaded again; what was drawn before the last time is forgotten."""


class Drawn(msgspec.Struct):
    """An answer as it was drawn, by the monotonic clock."""

    id: str = ""
    asked_at: float = 0.0
    at: list[float] = []
    lengths: list[int] = []
    """UTF-16 units that could be seen from then on."""
    climbed_at: float | None = None
    """When nothing but datagrams carried it."""
    text: str = ""
    is_done: bool = False
    rung: str = ""
    """By what it came at last."""
    longest_frame_s: float = 0.0
    """Between two frames that the browser drew meanwhile."""
