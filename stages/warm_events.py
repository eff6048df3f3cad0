"""What happens to a prompt that is being written, and what is done about it: values only."""

from dataclasses import dataclass
from enum import StrEnum

from headstart.stages.stable_prefix import Boundary
from headstart.stages.warm_budget import PrefillSpeed

__all__ = [
    "Abort",
    "Answered",
    "Budget",
    "Closed",
    "Committed",
    "Drop",
    "EditKind",
    "Edited",
    "LiveStage",
    "Moved",
    "Planned",
    "Render",
    "RenderFailed",
    "Rendering",
    "Restarted",
    "SliceFailed",
    "SliceStarved",
    "Warm",
    "WarmAction",
    "WarmEvent",
    "Warmed",
    "Why",
]


class Why(StrEnum):
    """Why a slice was aborted."""

    EDITED = "edited"
    """Its tokens are no part of the prompt any more."""
    COMMITTED = "committed"
    CLOSED = "closed"
    """The session ended, and nothing was sent off."""
    MOVED = "moved"
    """The session has another replica, adapter or cache salt."""


class LiveStage(StrEnum):
    """What is done for a prompt before it is sent off; values are metric label values."""

    INGEST = "ingest"
    """The text is edited."""
    SEGMENT = "segment"
    """It is found out what of the text can no longer change, or where its sentences end."""
    RENDER = "render"
    """The replica makes token ids of it, hop included."""
    WARM = "warm"
    """The engine prefills a slice."""
    THINK = "think"
    """The engine makes a thought, waits for its turn included."""


class Budget(StrEnum):
    """What may be used up; values are metric label values."""

    WARM = "warm"
    """Of prompt tokens that are computed ahead."""
    THOUGHTS = "thoughts"
    """Of tokens of thoughts."""


class EditKind(StrEnum):
    """How a text was edited."""

    APPEND = "append"
    REPLACE = "replace"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Edited:
    """The text has changed."""

    start: int
    """First code point that is not what it was."""
    num_chars: int
    """Length of the text now."""
    cut: int
    """Code points before the last place where it can be cut; 0 if the edit made none."""
    is_append: bool


@dataclass(frozen=True, slots=True)
class Restarted:
    """What comes before the text has changed, or it is another: nothing of the plan holds."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What `Render` asked for has had its turn: the text is taken as it is now."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What `Render` asked for."""

    tokens: list[int]
    """Ids that no further text can change."""
    at: Boundary
    """Where the text was cut for it."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """What `Warm` asked for is in the cache."""

    num_cached: int
    """How many of its tokens were there before."""
    seconds: float
    """From its beginning to its end in the engine, which may have done other things meanwhile."""


@dataclass(frozen=True, slots=True)
class RenderFailed:
    """What `Render` asked for cannot be had."""

    is_final: bool = False
    """Whether asking again for the same text is useless."""
    is_too_long: bool = False
    """Whether it is for any text that begins with this one, too."""


@dataclass(frozen=True, slots=True)
class SliceFailed:
    """What `Warm` asked for cannot be had."""


@dataclass(frozen=True, slots=True)
class Moved:
    """It is computed elsewhere from now on: on another replica, with another adapter or cache salt.

    None of what is in the cache there is known.
    """

    speed: PrefillSpeed


@dataclass(frozen=True, slots=True)
class Committed:
    """The text is being answered."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The session has ended."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer is over, however it ended, or there is none: the text can be edited again.

    If it is another than the one that was sent off, `Restarted` came before.
    """

    prompt_tokens: int = 0
    """Of the prompt that was answered, which is in the cache now; 0 if that is not known."""
    tokens: tuple[int, ...] = ()
    """The answer's, which are too; none where nothing was answered."""


WarmEvent = (
    Edited
    | Restarted
    | Rendering
    | Planned
    | RenderFailed
    | Warmed
    | SliceFailed
    | Moved
    | Committed
    | Closed
    | Answered
)


@dataclass(frozen=True, slots=True)
class Render:
    """Render the text and its continuations: feed `Rendering`, then `Planned`."""


@dataclass(frozen=True, slots=True)
class Warm:
    """Compute these ids into the prefix cache, then feed `Warmed`; the last one is beyond it."""

    tokens: list[int]


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop what `Warm` asked for; nothing is fed for it."""

    why: Why


@dataclass(frozen=True, slots=True)
class Drop:
    """Stop what `Render` asked for; nothing is fed for it."""


@dataclass(frozen=True, slots=True)
class SliceStarved:
    """A slice has to wait for its budget."""


WarmAction = Render | Drop | Warm | Abort | SliceStarved
