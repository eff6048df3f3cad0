"""How long readers waited, by our definition and by the Eloquent paper's."""

from collections.abc import Sequence
from itertools import pairwise

from headstart.benchmarks.channel_models import SLOT_S, Loss

__all__ = ["oracle_renders", "stall_s", "waiting_share"]

GRACE_S = 0.1
"""A token that is later than the link's own delay by more than this is stalled."""
PAPER_STALL_S = 0.2 + 1e-9
"""A gap of just 200 ms is none, whatever floating point makes of it."""


def stall_s(generated: Sequence[float], rendered: Sequence[float], delay_s: float) -> float:
    """Seconds in which some token was due for more than 100 ms and not on the screen.

    Args:
        generated: When each token was made, ascending.
        rendered: When each was shown, ascending.
        delay_s: One way, without queueing.
    """
    total, covered_until = 0.0, float("-inf")
    for made, shown in zip(generated, rendered, strict=True):
        start = max(made + delay_s + GRACE_S, covered_until)
        if shown > start:
            total += shown - start
            covered_until = shown
    return total


def waiting_share(rendered: Sequence[float]) -> float:
    """The paper's stall ratio: share of the time in gaps between renderings above 200 ms.

    The first 200 ms of such a gap count; the time runs from the first rendering to the last.
    Which of this the paper meant is not said there.
    """
    gaps = [after - before for before, after in pairwise(rendered)]
    span = rendered[-1] - rendered[0]
    return sum(gap for gap in gaps if gap > PAPER_STALL_S) / span if span > 0 else 0.0


def oracle_renders(generated: Sequence[float], loss: Loss, delay_s: float) -> list[float]:
    """When tokens are shown if the sender knows which packets get lost, and sends no other.

    It sends when a token is made and at the start of each slot, so that even a perfect sender
    waits out a burst.
    """
    rendered: list[float] = []
    for made in generated:
        if rendered and made + delay_s <= rendered[-1]:
            rendered.append(rendered[-1])  # went along with an earlier one that had to wait
            continue
        at, slot = made, int(made / SLOT_S)
        while loss.is_lost(at, 0):
            slot += 1
            at = (slot + 0.5) * SLOT_S
        rendered.append(at + delay_s)
    return rendered
