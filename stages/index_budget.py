"""What all indexes of one engine may take together: memory, and time in a step.

A long prompt is not indexed in one go between two steps, where every request of the batch would
wait for it; and many long ones must not fill the worker's memory.
"""

from typing import Protocol
from weakref import WeakSet

__all__ = ["IndexBudget"]

_REFILLED = 0.9
"""Share of the memory above which nothing new is indexed: who had to give way does not come back
at once, to be turned away again."""


class _Holder(Protocol):
    @property
    def num_indexed(self) -> int: ...


class IndexBudget:
    """Shared out to those who index, first come, first served.

    Args:
        max_tokens: Most that are indexed at a time. One takes about half a kilobyte.
        step_tokens: Most that are indexed between two steps. One takes one to five microseconds.
    """

    def __init__(self, max_tokens: int = 262_144, step_tokens: int = 256) -> None:
        self._max_tokens = max_tokens
        self._step_tokens = self._left = step_tokens
        self._holders: WeakSet[_Holder] = WeakSet()
        self._held: int | None = None
        """Counted when first asked for in a step."""

    @property
    def is_in_use(self) -> bool:
        """Whether anything was indexed since the step began."""
        return self._left < self._step_tokens

    @property
    def is_exceeded(self) -> bool:
        """Whether more is held than may be: answers grow, too."""
        return self._num_held() > self._max_tokens

    def join(self, holder: _Holder) -> None:
        """Count what this one holds, for as long as it lives."""
        self._holders.add(holder)

    def begin_step(self) -> None:
        """Give everybody a new share of time."""
        self._left, self._held = self._step_tokens, None

    def take(self, wanted: int) -> int:
        """Return how many of the wanted tokens may be indexed now."""
        room = int(_REFILLED * self._max_tokens) - self._num_held()
        granted = max(0, min(wanted, self._left, room))
        self._left -= granted
        self._held = self._num_held() + granted
        return granted

    def give_back(self, num_tokens: int) -> None:
        """Note that so many are indexed no more."""
        self._held = self._num_held() - num_tokens

    def _num_held(self) -> int:
        if self._held is None:
            self._held = sum(holder.num_indexed for holder in self._holders)
        return self._held
