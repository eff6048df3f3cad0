"""What happens to a prompt that is being thought about, and what is done about it: values only."""

from dataclasses import dataclass
from enum import StrEnum

from headstart.stages.mind_prompt import Noted
from headstart.stages.thoughts import Thought

__all__ = [
    "Answer",
    "AtCommit",
    "Delayed",
    "Dropped",
    "Ended",
    "Event",
    "Failed",
    "Loaded",
    "MindAction",
    "Reset",
    "Resumed",
    "Retyped",
    "SentOff",
    "Starved",
    "Stop",
    "Think",
    "ThoughtOutcome",
    "Thoughtful",
]


class AtCommit(StrEnum):
    """What becomes of a thought that is being made when the text is sent off."""

    CANCEL = "cancel"
    WAIT = "wait"


class ThoughtOutcome(StrEnum):
    """What became of a thought in the end; values are metric label values."""

    USED = "used"
    """It was in an answer's prompt."""
    WAIT = "wait"
    """The model had nothing to say yet."""
    DROPPED = "dropped"
    """The text it was about was edited, cleared or never sent off."""
    EDITED = "edited"
    """Stopped: the text it was about was edited."""
    COMMITTED = "committed"
    """Stopped: the text was sent off."""
    YIELDED = "yielded"
    """Stopped: requests had to wait."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Retyped:
    """The text has changed."""

    start: int
    """First code point that is not what it was."""
    text: str
    """All of it."""


@dataclass(frozen=True, slots=True)
class Reset:
    """What comes before the text has changed, or another text begins."""

    text: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """How busy the replica is that thinks, the session's own thought left out."""

    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Thoughtful:
    """A thought is there."""

    job: int
    thought: Thought
    num_tokens: int
    """That the engine made for it."""
    seconds: float = 0.0
    """From its first token to its last."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A thought has ended without one: it was stopped, or could not be had."""

    job: int
    num_tokens: int | None
    """That the engine made; None where nobody knows, and all that were allowed count."""
    is_final: bool = False
    """Whether asking again is useless before something changes."""
    seconds: float = 0.0
    """From its first token to its last."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """The prompt of a thought waits for its budget, or does so no longer."""

    job: int
    is_delayed: bool


@dataclass(frozen=True, slots=True)
class SentOff:
    """The text is complete."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """It could not be answered, and may be changed again."""


Event = Retyped | Reset | Loaded | Thoughtful | Failed | Delayed | SentOff | Resumed


@dataclass(frozen=True, slots=True)
class Think:
    """Ask for a thought, then feed `Thoughtful` or `Failed` with its number."""

    job: int
    noted: tuple[Noted, ...]
    end: int
    """Code points of the text that it shall be about."""
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a thought, then feed `Failed` with what it took."""

    job: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Send off the text with what has been thought about it."""

    noted: tuple[Noted, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Thoughts are forgotten: their text is not what it was."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a thought."""

    outcome: ThoughtOutcome
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Starved:
    """A thought has to wait for its budget."""


MindAction = Think | Stop | Answer | Dropped | Ended | Starved
