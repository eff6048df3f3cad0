"""What every proposer of tokens has in common: what it is told, and what it offers.

A proposer belongs to one request. After each step it is told what the step was; then it may be
asked for a draft, which the model verifies in the next step. Whatever it offers, the answer stays
the model's own: a wrong draft costs time only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

__all__ = ["Draft", "Proposer", "Source", "Verdict"]


class Source(StrEnum):
    """Kinds of proposers; values are metric label values and what a request may ask for."""

    COPY = "copy"
    JACOBI = "jacobi"
    DRAFTER = "drafter"
    """A table of n-grams."""
    MODEL = "model"
    """A neural drafter, which vLLM runs; no request chooses it but by its language."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next."""

    tokens: Sequence[int]
    grade: int = 0
    """How sure the proposer is, as a small number of its own, from 0 on: acceptance is learnt by
    grade."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one step made of one request."""

    tokens: Sequence[int]
    """Those that the answer gained: the accepted ones of the draft, and one more."""
    drafted: Sequence[int] = ()
    """The draft that was verified; the engine may have cut it."""
    predictions: Sequence[int] = ()
    """What the model says after each of `drafted[:0]`, `drafted[:1]`, ...: one more than drafted.
    Empty where nobody looks at them."""

    @property
    def num_accepted(self) -> int:
        """Drafted tokens that became part of the answer."""
        return min(max(0, len(self.tokens) - 1), len(self.drafted))


class Proposer(Protocol):
    """Drafts the tokens of one request."""

    def observe(self, verdict: Verdict) -> None:
        """Take what a step has added."""

    def draft(self, max_tokens: int) -> Draft | None:
        """Offer up to `max_tokens` tokens to come next, or nothing."""
