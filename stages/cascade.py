"""The best draft on offer for one request, or the one that least is known of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headstart.stages.drafting import Draft, Source

__all__ = ["Offer", "best", "least_tried"]


@dataclass(frozen=True, slots=True)
class Offer:
    """A draft, and what is to be expected of it."""

    source: Source
    draft: Draft
    survival: list[float]
    """For each token, the chance that it and all before it are right."""


def best(offers: Iterable[Offer], price: float) -> Offer | None:
    """Return the offer that wins most; of equals, the first.

    Args:
        price: How sure a token must be to be worth verifying.
    """
    return max(
        offers,
        key=lambda offer: sum(chance - price for chance in offer.survival if chance > price),
        default=None,
    )


def least_tried(offers: Iterable[Offer], tries: Mapping[Source, int]) -> Offer:
    """Return the offer of the source that was tried least; of equals, the first."""
    return min(offers, key=lambda offer: tries.get(offer.source, 0))
