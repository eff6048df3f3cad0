"""What speculation has done so far, as running totals that travel from worker to gateway."""

from enum import StrEnum

import msgspec

__all__ = ["Fallback", "SourceCounts", "SpeculationCounts"]


class Fallback(StrEnum):
    """Why a request, or one proposer of it, goes without drafts; values are metric label values."""

    SEED = "seed"
    """A seeded sample repeats only if the same random numbers are drawn in every run."""
    PENALTIES = "penalties"
    LOGIT_BIAS = "logit_bias"
    MIN_P = "min_p"
    BAD_WORDS = "bad_words"
    ALLOWED_TOKENS = "allowed_tokens"
    THINKING_BUDGET = "thinking_budget"
    NO_TOKENS = "no_tokens"
    """The prompt is no token ids, as where it is embeddings."""
    NO_DRAFTER = "no_drafter"
    """A drafter was asked for, and there is none for the language."""
    RAISED = "raised"
    OUT_OF_VOCABULARY = "out_of_vocabulary"
    TOO_MANY = "too_many"
    NOT_A_NUMBER = "not_a_number"
    """The model's logits were NaN."""


class SourceCounts(msgspec.Struct):
    """Of one kind of proposer."""

    drafts: int = 0
    """Drafts that were verified."""
    drafted: list[int] = []
    """Tokens verified, by position in the draft."""
    accepted: list[int] = []
    """Tokens accepted, by position in the draft."""

    def add(self, num_drafted: int, num_accepted: int) -> None:
        """Count one verified draft."""
        self.drafts += 1
        missing = num_drafted - len(self.drafted)
        self.drafted += [0] * missing
        self.accepted += [0] * missing
        for position in range(num_drafted):
            self.drafted[position] += 1
            self.accepted[position] += position < num_accepted


class SpeculationCounts(msgspec.Struct):
    """Of one engine, since it started."""

    steps: int = 0
    """Engine steps that gave at least one request a token."""
    rows: int = 0
    """Requests in those steps, summed: tokens divided by these are tokens per step."""
    tokens: int = 0
    """Tokens that those requests gained."""
    draft_s: float = 0.0
    """Spent on proposing, for whole batches."""
    verify_s: float = 0.0
    """Spent in the model and the sampler, in steps that verified a draft."""
    plain_s: float = 0.0
    """The same, in steps that computed one token a request."""
    sources: dict[str, SourceCounts] = {}
    fallbacks: dict[str, int] = {}
