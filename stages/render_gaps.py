"""Gaps between two advances of what a reader shows, and whose fault the long ones are.

Times are seconds on one clock; whoever feeds them has clamped what a reader claims.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Gap", "RenderGaps", "StallCause"]

STALL_S = 0.2
"""A gap that a person notices."""


class StallCause(StrEnum):
    """What most of a long gap was spent waiting for; values are metric label values."""

    GENERATION = "generation"
    """Nothing was there to send."""
    NETWORK = "network"
    """It was there and had not arrived."""
    CLIENT = "client"
    """It had arrived and was not shown."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Time between two advances of what a reader has on the screen."""

    seconds: float
    stall: StallCause | None
    """Set where it is long enough to be noticed."""


class RenderGaps:
    """The gaps of one answer at one reader."""

    def __init__(self) -> None:
        self._shown_at: float | None = None

    def shown(self, generated_at: float, delivered_at: float, shown_at: float) -> Gap | None:
        """Take an advance: when its oldest text was there to send, had arrived, and was shown.

        Returns:
            None for the first: before it there is no gap, but a time to the first token.
        """
        before, self._shown_at = self._shown_at, max(shown_at, self._shown_at or shown_at)
        if before is None:
            return None
        seconds = max(0.0, shown_at - before)
        if seconds < STALL_S:
            return Gap(seconds, None)
        began, arrived = max(generated_at, before), max(delivered_at, before)
        parts = {
            StallCause.GENERATION: began - before,
            StallCause.NETWORK: arrived - began,
            StallCause.CLIENT: shown_at - arrived,
        }
        return Gap(seconds, max(parts, key=parts.__getitem__))
