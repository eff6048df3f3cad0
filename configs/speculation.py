"""Settings of speculation: several tokens a step, each of them what the model would have said."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from headstart.configs.fields import FileOrBuiltin
from headstart.configs.section import Section

__all__ = [
    "MAX_BLOCK_TOKENS",
    "MAX_DRAFT_TOKENS",
    "DrafterSettings",
    "Language",
    "SpeculationSettings",
]

MAX_DRAFT_TOKENS = 64
"""Most tokens that a step may draft for one request; vLLM's own limit is 128."""
MAX_BLOCK_TOKENS = MAX_DRAFT_TOKENS + 1
"""Of a Jacobi block, whose first token is known."""

Rows = Annotated[int, Field(ge=2)]
Tokens = Annotated[int, Field(ge=0, le=16)]

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]


def _off(said: object) -> object:
    """YAML reads `off` as false."""
    return "off" if said is False else said


class DrafterSettings(Section):
    """Replicas of a model beside which a small model drafts, for one language of the input."""

    source: str = Field(
        description="Where the drafting model is, as `source` of the model; with the same "
        "vocabulary, unless it is a head on the model's own hidden states.",
    )
    method: Literal["draft_model", "eagle", "eagle3"] = Field(
        default="draft_model",
        description="How vLLM runs it: a model of its own, or an EAGLE head.",
    )
    num_tokens: int = Field(
        default=4,
        ge=1,
        le=16,
        description="Tokens that it drafts in each step.",
    )
    num_tokens_by_rows: dict[Rows, Tokens] = Field(
        default_factory=dict,
        description="What it drafts instead where a step has so many requests or more: "
        "`{8: 2, 32: 0}`. vLLM keeps to the plan, and learns none. With one, steps on a GPU go "
        "without full CUDA graphs.",
    )
    replicas: int = Field(
        default=1, ge=1, le=64, description="Copies of the model with this drafter."
    )
    cores: tuple[str, ...] | None = Field(
        default=None, description="CPU cores of each of them, as `cores` of the model."
    )

    @property
    def is_head(self) -> bool:
        """Whether it drafts from the model's own hidden states, and may have no tokenizer."""
        return self.method != "draft_model"


class SpeculationSettings(Section):
    """How a model drafts tokens for itself to verify."""

    default: Annotated[
        Literal["auto", "off", "jacobi", "copy", "drafter"] | None, BeforeValidator(_off)
    ] = Field(
        default=None,
        description="What a request gets that does not ask by `headstart.speculation`: `auto` (the "
        "best draft on offer), `off`, `jacobi`, `copy` or `drafter`. Unset: `auto` if the model "
        "card has a block length, else `off`.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MAX_DRAFT_TOKENS,
        description="Most tokens that a step drafts for one request. Unset: one less than the "
        "model card's block length if it has one, else 16.",
    )
    block_tokens: int | None = Field(
        default=None,
        ge=2,
        le=MAX_BLOCK_TOKENS,
        description="Length of a Jacobi block, for weights that are tuned for it; `auto` uses "
        "Jacobi steps only where this is set or the model card has it. Unset: what "
        "`headstart: {block_tokens: N}` at the head of the model's README.md says.",
    )
    tables: dict[Language, FileOrBuiltin] = Field(
        default_factory=dict,
        description="Language drafters: n-gram tables by language tag of the input, made from this "
        "model's own answers by `headstart table`; `builtin:NAME` is one that comes with "
        "Headstart.",
    )
    drafters: dict[Language, DrafterSettings] = Field(
        default_factory=dict,
        description="Neural drafters by language tag of the input: each is a pool of further "
        "replicas of this model. Requests in the language go there while it is not hot.",
    )
    is_adaptive: bool = Field(
        default=True,
        description="Draft as many tokens as pay for their verification, down to none. `false` "
        "drafts whatever is on offer, for measurements.",
    )
    max_slowdown: float = Field(
        default=0.03,
        ge=0,
        le=100,
        description="By what share of its time a request may fall behind decoding without drafts "
        "because others in its batch are drafted for. More of it gives the batch more tokens a "
        "second, at the cost of those that cannot be drafted for; 100 is no limit.",
    )
