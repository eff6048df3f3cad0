"""What all indexes of one engine may take together: memory, and time in a step.

A long prompt is not indexed in one go between two steps, where every request of the batch would
wait for it: it gets a share of the time that steps take, and what a token takes is learnt. And many
long ones must not fill the worker's memory.
"""

from collections.abc import Mapping
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["IndexBudget", "shares"]

_REFILLED = 0.9
"""Share of the memory above which nothing new is indexed: who had to give way does not come back
at once, to be turned away again."""
_BUSY_STEPS = 7
"""After so many steps in which something was indexed nothing is in the next: it tells what all the
rest between two steps takes."""
_GUESSED_S, _LEAST_S = 5e-6, 0.5e-6
"""What indexing a token takes until it is known, and what it is thought to take at least."""
_WEIGHT = 0.2
"""Of a new measurement."""
_LOW, _HIGH = 0.5, 3.0
"""Times what is known that a measurement may say: one hiccup is not believed, and what is dear is
learnt sooner than what is cheap."""


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
        least_tokens: What is indexed between two steps however short they are, so that it goes on.
        most_tokens: Most that are, however long the step was.
        share: Of a step's time that indexing may take behind it.
    """

    def __init__(
        self,
        max_tokens: int = 262_144,
        least_tokens: int = 16,
        most_tokens: int = 4096,
        share: float = 0.01,
    ) -> None:
        self._max_tokens = max_tokens
        self._least_tokens = least_tokens
        self._most_tokens = most_tokens
        self.share = share
        self._token_s = _GUESSED_S
        self._step_tokens = least_tokens
        self._num_busy_steps = 0
        self._holders: WeakKeyDictionary[_Holder, bool] = WeakKeyDictionary()
        """In the order in which they came; whether they have asked since it was last dealt out: who
        is preempted does not."""
        self._shares: WeakKeyDictionary[_Holder, int] | None = None
        """What each may index in this step; dealt out when first asked."""
        self._left = 0
        """What nobody wanted when it was dealt out: who is done with a piece goes on with that."""
        self._held: int | None = None
        """Counted when first asked for in a step."""
        self.num_granted = 0
        """Tokens indexed since the step began."""

    @property
    def is_exceeded(self) -> bool:
        """Whether more is held than may be: answers grow, too."""
        return self._num_held() > self._max_tokens

    @property
    def expected_s(self) -> float:
        """What indexing since the step began should have taken, in seconds."""
        return self.num_granted * self._token_s

    def join(self, holder: _Holder) -> None:
        """Count what this one holds and wants, for as long as it lives."""
        self._holders[holder] = True

    def begin_step(self, seconds: float) -> None:
        """Give everybody a new share of time.

        Args:
            seconds: How long the step took that has come in, in the model and the sampler. One that
                computed a prompt is long, and much may be indexed behind it.
        """
        self._num_busy_steps = self._num_busy_steps + 1 if self.num_granted else 0
        self._shares, self._held, self.num_granted = None, None, 0
        affordable = min(self._most_tokens, int(self.share * seconds / self._token_s))
        self._step_tokens = max(self._least_tokens, affordable)
        if self._num_busy_steps == _BUSY_STEPS:
            self._step_tokens = 0

    def take(self, holder: _Holder) -> int:
        """Return how many of the tokens that it wants a holder may index now."""
        if self._shares is None:
            self._shares = WeakKeyDictionary(self._dealt_out())
        self._holders[holder] = True
        wanted = holder.num_wanted
        granted = min(wanted, self._shares.pop(holder, 0))
        more = min(wanted - granted, self._left)
        self._left -= more
        granted += more
        self.num_granted += granted
        self._held = self._num_held() + granted
        return granted

    def took(self, seconds: float) -> None:
        """Learn from how long indexing took since the step began."""
        if self.num_granted:
            known = self._token_s
            found = min(max(seconds / self.num_granted, _LOW * known), _HIGH * known)
            self._token_s = max(_LEAST_S, known + _WEIGHT * (found - known))

    def give_back(self, num_tokens: int) -> None:
        """Note that so many are indexed no more."""
        self._held = self._num_held() - num_tokens

    def _dealt_out(self) -> dict[_Holder, int]:
        room = int(_REFILLED * self._max_tokens) - self._num_held()
        room = self._left = max(0, min(self._step_tokens, room))
        if not room:
            return {}
        wanted = {
            holder: num_wanted
            for holder, has_asked in self._holders.items()
            if has_asked and (num_wanted := holder.num_wanted)
        }
        for holder in wanted:
            self._holders[holder] = False
        dealt_out = shares(wanted, room)
        self._left -= sum(dealt_out.values())
        return dealt_out

    def _num_held(self) -> int:
        if self._held is None:
            self._held = sum(holder.num_indexed for holder in self._holders)
        return self._held
