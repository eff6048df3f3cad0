"""What all indexes of one engine may take together: memory, and time in a step.

A long prompt is not indexed in one go between two steps, where every request of the batch would
wait for it; and many long ones must not fill the worker's memory.
"""

from collections.abc import Mapping
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["IndexBudget", "shares"]

_REFILLED = 0.9
"""Share of the memory above which nothing new is indexed: who had to give way does not come back
at once, to be turned away again."""


class _Holder(Protocol):
    @property
    def num_indexed(self) -> int: ...

    @property
    def num_wanted(self) -> int: ...


_Key = TypeVar("_Key")


def shares(wanted: Mapping[_Key, int], room: int) -> dict[_Key, int]:
    """Share out room among those who want some: half of it to who is served with least.

    So the end of a new prompt is there at once, however long another one is. The other half is
    dealt out evenly, so that nobody waits for ever; what is left of it goes to the shortest, too.

    Args:
        wanted: How much each wants; of equals the first comes first.
    """
    given = dict.fromkeys(wanted, 0)
    by_length = sorted(wanted, key=lambda key: wanted[key])
    evenly = room // 2
    for position, key in enumerate(by_length):
        given[key] = min(wanted[key], evenly // (len(by_length) - position))
        evenly -= given[key]
    left = room - sum(given.values())
    for key in by_length:
        more = min(wanted[key] - given[key], left)
        given[key] += more
        left -= more
    return given


class IndexBudget:
    """Shared out to those who index.

    Args:
        max_tokens: Most that are indexed at a time. One takes about half a kilobyte.
        step_tokens: Most that are indexed between two steps. One takes one to five microseconds.
    """

    def __init__(self, max_tokens: int = 262_144, step_tokens: int = 256) -> None:
        self._max_tokens = max_tokens
        self._step_tokens = step_tokens
        self._holders: WeakKeyDictionary[_Holder, bool] = WeakKeyDictionary()
        """In the order in which they came; whether they have asked since it was last dealt out: who
        is preempted does not."""
        self._shares: WeakKeyDictionary[_Holder, int] | None = None
        """What each may index in this step; dealt out when first asked."""
        self._held: int | None = None
        """Counted when first asked for in a step."""
        self.is_in_use = False
        """Whether anything was indexed since the step began."""

    @property
    def is_exceeded(self) -> bool:
        """Whether more is held than may be: answers grow, too."""
        return self._num_held() > self._max_tokens

    def join(self, holder: _Holder) -> None:
        """Count what this one holds and wants, for as long as it lives."""
        self._holders[holder] = True

    def begin_step(self) -> None:
        """Give everybody a new share of time."""
        self._shares, self._held, self.is_in_use = None, None, False

    def take(self, holder: _Holder) -> int:
        """Return how many of the tokens that it wants a holder may index now."""
        if self._shares is None:
            self._shares = WeakKeyDictionary(self._dealt_out())
        self._holders[holder] = True
        granted = min(holder.num_wanted, self._shares.pop(holder, 0))
        self.is_in_use = self.is_in_use or granted > 0
        self._held = self._num_held() + granted
        return granted

    def give_back(self, num_tokens: int) -> None:
        """Note that so many are indexed no more."""
        self._held = self._num_held() - num_tokens

    def _dealt_out(self) -> dict[_Holder, int]:
        room = int(_REFILLED * self._max_tokens) - self._num_held()
        wanted = {
            holder: num_wanted
            for holder, has_asked in self._holders.items()
            if has_asked and (num_wanted := holder.num_wanted)
        }
        for holder in wanted:
            self._holders[holder] = False
        return shares(wanted, max(0, min(self._step_tokens, room)))

    def _num_held(self) -> int:
        if self._held is None:
            self._held = sum(holder.num_indexed for holder in self._holders)
        return self._held
