"""What a network does to packets: loss, delay, reordering, duplication, rate limits, blackouts.

Loss is a function of time, drawn from a seed, and does not depend on what was sent before: two
schemes on the same seed meet the same weather, and a sender that knows it can be computed.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

__all__ = [
    "Blackouts",
    "Bottleneck",
    "Link",
    "Loss",
    "NoLoss",
    "RandomLoss",
    "StateLoss",
    "gilbert_elliott",
]

SLOT_S = 0.02
"""Packets of the same slot meet the same draws in order; also the pace of the all-knowing sender:
the shortest time between two datagrams that any scheme of ours uses."""
_MASK = (1 << 64) - 1


def _uniform(seed: int, slot: int, nth: int) -> float:
    """A number in [0, 1) for the nth packet of a slot, by the finaliser of SplitMix64."""
    value = (
        seed * 0x9E3779B97F4A7C15 + slot * 0xD1B54A32D192ED03 + nth * 0x8CB92BA72F3D8DD7
    ) & _MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return (value ^ value >> 31) / 2**64


class Loss(Protocol):
    """Which packets get lost."""

    def is_lost(self, now: float, nth: int) -> bool:
        """Whether the nth packet of the slot that `now` lies in is lost."""
        ...


class NoLoss:
    """Loses nothing."""

    def is_lost(self, now: float, nth: int) -> bool:
        """Never."""
        return False


class RandomLoss:
    """Loses each packet by itself with one probability."""

    def __init__(self, probability: float, seed: int) -> None:
        self._probability = probability
        self._seed = seed

    def is_lost(self, now: float, nth: int) -> bool:
        """Whether the packet's draw falls below the probability."""
        return _uniform(self._seed, int(now / SLOT_S), nth) < self._probability


class StateLoss:
    """A good state that loses nothing and a bad one that loses much, as a chain over time.

    Args:
        step_s: The state may change once in this time.
        stay_good: Probability of staying in the good state.
        stay_bad: Probability of staying in the bad state. The paper calls the two p and q.
        loss_in_bad: Probability that a packet is lost in the bad state.
    """

    def __init__(
        self, step_s: float, stay_good: float, stay_bad: float, loss_in_bad: float, seed: int
    ) -> None:
        self._step_s = step_s
        self._stay = (stay_good, stay_bad)
        self._loss_in_bad = loss_in_bad
        self._seed = seed
        self._random = Random(seed)  # noqa: S311 weather, not a secret
        share_bad = (1 - stay_good) / ((1 - stay_good) + (1 - stay_bad))
        self._states = [int(self._random.random() < share_bad)]

    def is_bad(self, now: float) -> bool:
        """Whether the chain is in the bad state."""
        step = int(now / self._step_s)
        while step >= len(self._states):
            state = self._states[-1]
            self._states.append(state ^ (self._random.random() >= self._stay[state]))
        return bool(self._states[step])

    def is_lost(self, now: float, nth: int) -> bool:
        """Whether the state is bad and the packet's draw below its loss."""
        if not self.is_bad(now):
            return False
        return _uniform(self._seed, int(now / SLOT_S), nth) < self._loss_in_bad


def gilbert_elliott(to_bad: float, to_good: float, loss_in_bad: float, seed: int) -> StateLoss:
    """The usual chain, one step for each slot of 20 ms: mean burst `1 / to_good` slots."""
    return StateLoss(SLOT_S, 1 - to_bad, 1 - to_good, loss_in_bad, seed)


class Blackouts:
    """Loses everything in some intervals, and what another model loses outside of them."""

    def __init__(self, intervals: Sequence[tuple[float, float]], otherwise: Loss) -> None:
        self._starts = [start for start, _ in intervals]
        self._stops = [stop for _, stop in intervals]
        self._otherwise = otherwise

    def is_lost(self, now: float, nth: int) -> bool:
        """Whether `now` lies in a blackout, or the other model loses the packet."""
        index = bisect_right(self._starts, now) - 1
        is_dark = index >= 0 and now < self._stops[index]
        return is_dark or self._otherwise.is_lost(now, nth)


@dataclass(slots=True)
class Bottleneck:
    """A rate limit with a queue before it, of one link or of several that share it."""

    bytes_per_s: float
    queue_s: float = 0.5
    """Packets that would wait longer than this are lost."""
    is_shared: bool = False
    """Whether all answers of a cell go through one."""
    _busy_until: float = 0.0

    def leaves(self, now: float, size_bytes: int) -> float | None:
        """When a packet that comes now is through; None where it is lost."""
        leaves = max(now, self._busy_until)
        if leaves - now > self.queue_s:
            return None
        self._busy_until = leaves + size_bytes / self.bytes_per_s
        return self._busy_until


@dataclass(slots=True)
class Link:
    """One direction of a path."""

    loss: Loss
    delay_s: float
    """One way, without queueing."""
    reorder: float = 0.0
    """Share of packets that take up to `reorder_s` longer."""
    reorder_s: float = 0.05
    duplicate: float = 0.0
    """Share of packets that arrive twice."""
    jitter_s: float = 0.0
    """Every packet takes up to so much longer, and none overtakes another for it."""
    bottleneck: Bottleneck | None = None
    seed: int = 0
    _last_arrival: float = 0.0
    _slot: int = -1
    _nth: int = 0
    _random: Random | None = None

    def arrivals(self, now: float, size_bytes: int) -> list[float]:
        """When a packet sent now arrives: not at all, once or twice."""
        slot = int(now / SLOT_S)
        self._nth = self._nth + 1 if slot == self._slot else 0
        self._slot = slot
        leaves: float | None = now
        if self.bottleneck is not None:
            leaves = self.bottleneck.leaves(now, size_bytes)
        if leaves is None or self.loss.is_lost(now, self._nth):
            return []
        arrival = leaves + self.delay_s
        if not self.reorder and not self.duplicate and not self.jitter_s:
            return [arrival]
        self._random = self._random or Random(self.seed)  # noqa: S311 weather too
        if self.jitter_s:
            arrival += self._random.random() * self.jitter_s
            arrival = self._last_arrival = max(arrival, self._last_arrival)
        if self._random.random() < self.reorder:
            arrival += self._random.random() * self.reorder_s
        if self._random.random() < self.duplicate:
            return [arrival, arrival + self._random.random() * self.reorder_s]
        return [arrival]
