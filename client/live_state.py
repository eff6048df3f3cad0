"""What a gateway says of a live prompt."""

import msgspec

__all__ = ["Computed", "ComputedAhead", "LiveState", "Reasoning", "Response", "Thought"]


class Computed(msgspec.Struct, frozen=True):
    """How much of the prompt the server has computed."""

    version: int
    """Of the text that all of it holds for; typing on leaves it so."""
    prompt_tokens: int
    stable_tokens: int
    """How many of them further text cannot change."""
    warm_tokens: int
    """How many of those need not be computed any more."""


class Thought(msgspec.Struct, frozen=True):
    """What a model has thought about the text."""

    end: int
    """Code points that it is about."""
    action: str
    text: str


class Reasoning(msgspec.Struct, frozen=True):
    """All that has been thought about the text."""

    version: int
    thoughts: list[Thought]


class Response(msgspec.Struct, frozen=True):
    """The latest answer, and how it ended."""

    id: str
    status: str
    """`in_progress`, `completed`, `cancelled` or `failed`: its prompt is still there then."""
    finish_reasons: list[str | None] = []
    error: dict[str, object] | None = None


class ComputedAhead(msgspec.Struct, frozen=True):
    """What was computed before an answer was asked for; docs/live.md has the meanings."""

    tokens: int
    wasted_tokens: int
    engine_s: float
    hidden_s: float
    waited_s: float = 0.0
    thoughts: int = 0
    thought_tokens: int = 0
    wasted_thought_tokens: int = 0
    thought_engine_s: float = 0.0


class LiveState(msgspec.Struct, frozen=True):
    """All there is of a session, at one time."""

    id: str
    version: int
    num_chars: int
    computed: Computed
    model: str = ""
    mode: str = "lossless"
    is_answering: bool = False
    is_committing: bool = False
    """Whether a thought is waited for before the text is sent off."""
    reasoning: Reasoning | None = None
    """Where the session asked to see it."""
    response: Response | None = None
    timing: dict[str, object] | None = None
    """The stages of the latest answer's request, once it has ended."""
    computed_ahead: ComputedAhead | None = None
    """For the latest answer, once it has ended."""
    text: str | None = None
    """Where it was asked for."""
