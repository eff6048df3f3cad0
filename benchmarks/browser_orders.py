"""What is said to the pages' end of a real link, and what it answers."""

from enum import StrEnum

import msgspec

__all__ = ["Arm", "Ask", "Cost", "Drawn", "Heap", "Launch", "Open", "Shut", "Stay", "Weigh"]


class Arm(StrEnum):
    """What is compared: the page at `/` in a browser with WebTransport, and in one without."""

    OURS = "datagrams"
    SSE = "SSE, TCP"


class Launch(msgspec.Struct, tag=True):
    """Start the browser; answered by its name and version."""

    origin: str
    """Whose pages may open WebTransport sessions without TLS."""


class Open(msgspec.Struct, tag=True):
    """Open pages, each with connections of its own; answered by their number."""

    arm: Arm
    url: str
    count: int
    warm_model: str | None = None
    """Whose answer each reads first, until it has a session where it can have one."""


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
    is_typed: bool = True
    """Typed now and sent off then, rather than pasted then."""
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


class Weigh(msgspec.Struct, tag=True):
    """Read answers one after another in a page that nothing watches; answered by their `Cost`s."""

    arm: Arm
    url: str
    model: str
    num_answers: int


class Cost(msgspec.Struct):
    """What the page's main thread spent on one answer, by the browser's own account."""

    num_frames: int
    """In which the page drew."""
    task_s: float
    """Script, style, layout and painting, and whatever else ran there."""
    script_s: float
    layout_s: float
    """With style."""


class Stay(msgspec.Struct, tag=True):
    """Read many answers in one page, one after another; answered by its `Heap`s along the way."""

    arm: Arm
    url: str
    model: str
    num_answers: int
    num_samples: int
    idle_s: float
    """For which nothing happens at the end, by the page's own clock, which is turned forward."""


class Heap(msgspec.Struct):
    """What a page held once its garbage was collected."""

    num_answers: int
    bytes: int
    """Of JavaScript's heap."""
    num_nodes: int
    num_listeners: int
    is_after_idling: bool = False
