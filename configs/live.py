"""Settings of prompts that are sent as they are typed."""

from pydantic import Field

from headstart.configs.section import Section

__all__ = ["LiveSettings"]


class LiveSettings(Section):
    """Live prompts: what is computed of a prompt before it is sent off."""

    enabled: bool = Field(
        default=True,
        description="Take prompts as they are typed, from keys with `live` and, where there are no "
        "keys, from anyone.",
    )
    max_sessions: int = Field(
        default=1024, ge=1, description="Most open sessions; further ones get 503."
    )
    max_chars: int = Field(
        default=262_144,
        ge=1024,
        le=4_194_304,
        description="Most that one session holds, code points: the prompt, what came before it, "
        "instructions and tools.",
    )
    idle_timeout_s: float = Field(
        default=900.0,
        gt=0,
        description="Silence after which a session ends and its text is forgotten, seconds.",
    )
    resume_s: float = Field(
        default=60.0,
        ge=0,
        description="Seconds that a session whose WebSocket is lost can be taken up again.",
    )
    debounce_s: float = Field(
        default=0.1,
        ge=0,
        le=10,
        description="Quiet after typing before new text is computed, seconds. Without a pause it "
        "is computed after ten times as long.",
    )
    edit_debounce_s: float = Field(
        default=0.5,
        ge=0,
        le=10,
        description="The same after a correction, which often is the first of several.",
    )
    slice_s: float = Field(
        default=0.1,
        gt=0,
        le=0.1,
        description="Longest that one slice of such work may hold up a request that comes, seconds "
        "of measured prefill. At least one block is computed.",
    )
    tokens_per_minute: int = Field(
        default=600_000,
        ge=1,
        description="Most prompt tokens that all sessions of a gateway compute ahead, a minute.",
    )
