"""What speculation is counted by: languages, reasons, decisions and places in a draft.

Their values are metric label values.
"""

from collections.abc import Container
from enum import StrEnum

from headstart.stages.language import closest

__all__ = [
    "NO_LANGUAGE",
    "OTHER_LANGUAGE",
    "Decision",
    "Position",
    "Undrafted",
    "counted_as",
]

NO_LANGUAGE, OTHER_LANGUAGE = "none", "other"
"""What requests count as that say no language, or one that their model does not declare; no
language tag has these forms."""


def counted_as(language: str | None, declared: Container[str]) -> str:
    """Return the language that a request is counted under: a declared one, or one of the above.

    Clients may say any tag, and each that is counted is kept for good.
    """
    if language is None:
        return NO_LANGUAGE
    return closest(language, declared) or OTHER_LANGUAGE


class Undrafted(StrEnum):
    """Why a request, or one proposer of it, goes without drafts."""

    SEED = "seed"
    """A seeded sample repeats only if the same random numbers are drawn in every run."""
    LOGIT_BIAS = "logit_bias"
    MIN_P = "min_p"
    THINKING_BUDGET = "thinking_budget"
    NO_TOKENS = "no_tokens"
    """The prompt is no token ids, as where it is embeddings."""
    NO_DRAFTER = "no_drafter"
    """A drafter was asked for, and there is none for the language."""
    RAISED = "raised"
    CONTROLLER = "controller"
    """What decides failed, and no proposer: requests under way then go on without drafts."""
    OUT_OF_VOCABULARY = "out_of_vocabulary"
    TOO_MANY = "too_many"
    NOT_A_NUMBER = "not_a_number"
    """The model's logits were NaN."""


class Decision(StrEnum):
    """What the controller makes of a step's end, for the next."""

    DRAFT = "draft"
    PROBE = "probe"
    """Nothing pays; one token is tried for one request, to notice that things have changed."""
    NO_GAIN = "no_gain"
    """Nothing pays."""
    MEASURE = "measure"
    """Drafts would pay by what is known, but plain steps have not been measured lately."""
    NO_DRAFT = "no_draft"
    """No request wants drafts, has room for them and is offered one."""
    REST = "rest"
    """Nothing paid lately, and looking for drafts has had its share of the time."""


class Position(StrEnum):
    """Where in a draft a token stands."""

    FIRST = "1"
    SECOND = "2"
    THIRD = "3"
    FOURTH = "4"
    FROM_5 = "5-8"
    FROM_9 = "9-16"
    FROM_17 = "17-64"

    @classmethod
    def of(cls, index: int) -> "Position":
        """Return where the token with this index, from 0, stands."""
        return _POSITIONS[min(index, len(_POSITIONS) - 1)]


_POSITIONS = (
    *(Position.FIRST, Position.SECOND, Position.THIRD, Position.FOURTH),
    *(4 * (Position.FROM_5,)),
    *(8 * (Position.FROM_9,)),
    Position.FROM_17,
)
