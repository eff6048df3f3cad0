"""Settings of prompts that are sent as they are typed."""

from pydantic import Field

from headstart.configs.section import Section

__all__ = ["LiveSettings", "ThinkingSettings"]


class ThinkingSettings(Section):
    """LiveMind: what is thought about a prompt before it is sent off, where a session asks."""

    enabled: bool = Field(
        default=True, description="Let sessions ask for `mode: livemind`, which changes answers."
    )
    tokens_per_minute: int = Field(
        default=20_000,
        ge=1,
        description="Most thought tokens that all sessions of a gateway take, a minute.",
    )
    max_tokens: int = Field(
        default=64, ge=1, le=4096, description="Most tokens of one thought; sessions may ask less."
    )
    max_thoughts: int = Field(
        default=32, ge=1, le=1024, description="Most thoughts about one text."
    )
    min_chars: int = Field(
        default=20, ge=1, description="Fewest new code points that are worth a thought."
    )
    interval_s: float = Field(
        default=0.5,
        ge=0,
        le=600,
        description="Shortest time between the beginnings of two thoughts of a session, seconds.",
    )
    settle_s: float = Field(
        default=1.5,
        ge=0,
        le=600,
        description="Quiet after which the last sentence or clause counts as complete if it ends "
        "with a mark of punctuation, seconds.",
    )
    max_running: int = Field(
        default=4,
        ge=0,
        description="Requests that a replica may be busy with for a thought to begin there. None "
        "begins, and none goes on, while requests wait.",
    )
    wait_s: float = Field(
        default=5.0,
        ge=0,
        le=60,
        description="Longest that an answer waits for the thought in the making, where a session "
        "asks for that, seconds.",
    )


class LiveSettings(Section):
    """Live prompts: what is computed of a prompt before it is sent off."""

    enabled: bool = Field(
        default=True,
        description="Take prompts as they are typed, from keys with `live` and, where there are no "
        "keys, from anyone.",
    )
    max_sessions: int = Field(
        default=1024,
        ge=1,
        description="Most open sessions; further ones get 503. Keys share them: one by itself has "
        "half at most, a second one half of the rest, and gets 429 beyond that; each may have one.",
    )
    max_chars: int = Field(
        default=262_144,
        ge=1024,
        le=4_194_304,
        description="Most that one session holds, code points: the prompt, what came before it, "
        "instructions and tools.",
    )
    max_total_chars: int = Field(
        default=33_554_432,
        ge=1024,
        description="Most that all sessions hold together, code points of up to 4 bytes; keys "
        "share them as they share sessions.",
    )
    max_renders: int = Field(
        default=8,
        ge=1,
        description="Most live prompts of one key, or of all where there are no keys, that "
        "replicas make token ids of at the same time.",
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
        "is computed so long after a block is expected to be there, and after ten times as long "
        "where one may be there.",
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
    thinking: ThinkingSettings = Field(default_factory=ThinkingSettings)
