"""How late frames arrive: from the engine step that made them to the process that reads them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from headstart.stages.frames import Frame
from headstart.stages.token_log import TokenLog

__all__ = ["Ask", "Delivery", "Receipt", "delivery_of"]


class Ask(msgspec.Struct, frozen=True):
    """What a reader is told to fetch: some answers at once."""

    model: str
    num_streams: int
    num_tokens: int
    """Length of each answer."""


class Delivery(msgspec.Struct, frozen=True):
    """How they came."""

    seconds: float
    """From asking to the last frame."""
    num_tokens: int
    late_s: list[float]
    """Of each token: from its engine step to its arrival here."""


@dataclass(slots=True)
class Receipt:
    """One answer as it came in."""

    asked_at: float
    """Monotonic clock, seconds, as all here: the processes share a machine and so that clock."""
    log: TokenLog
    arrivals: list[tuple[int, float]] = field(default_factory=list)
    """How long the log was after each arrival, and when."""
    first_sampled_at: float | None = None
    """When the engine stepped for the first token, on its own reading of that clock."""


def delivery_of(receipts: Sequence[Receipt]) -> Delivery:
    """Sum up answers that were asked for together."""
    began = min(receipt.asked_at for receipt in receipts)
    ended = max(receipt.arrivals[-1][1] for receipt in receipts)
    late_s = [late for receipt in receipts for late in _late_s(receipt)]
    return Delivery(ended - began, len(late_s), late_s)


def _late_s(receipt: Receipt) -> list[float]:
    """Seconds between each token's engine step and its arrival."""
    assert receipt.first_sampled_at is not None
    arrivals = iter(receipt.arrivals)
    end, at = next(arrivals)
    began: float | None = None
    found: list[float] = []
    for cursor, frame in receipt.log.frames(0):
        while end < cursor:
            end, at = next(arrivals)
        if not frame.tokens:
            continue
        if began is None:
            # Frames count from the stream's start; the first token's step ties that to the clock.
            began = receipt.first_sampled_at - _seconds(frame)
        found += [at - began - _seconds(frame)] * len(frame.tokens)
    return found


def _seconds(frame: Frame) -> float:
    return frame.at_us / 1e6
