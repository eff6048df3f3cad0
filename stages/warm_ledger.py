"""What is computed of a prompt before anybody has asked: taken from its budget, and counted."""

from dataclasses import dataclass

from headstart.stages.warm_budget import PrefillSpeed, TokenBudget

__all__ = ["Account", "WarmLedger"]


@dataclass(frozen=True, slots=True)
class Account:
    """What was computed ahead in one turn, and what it was good for."""

    computed_tokens: int
    used_tokens: int
    """Of those, what the committed prompt found in the cache, at least."""
    seconds: float
    """From the beginning to the end of each slice, whatever else the engine did meanwhile."""

    @property
    def wasted_tokens(self) -> int:
        return self.computed_tokens - self.used_tokens

    @property
    def hidden_s(self) -> float:
        """How much of that the answer did not have to wait for."""
        return self.seconds * self.used_tokens / self.computed_tokens if self.computed_tokens else 0


class WarmLedger:
    """One session's: of the text itself and of the prompts of thoughts about it.

    Args:
        budget: Of the session's key, and of all.
    """

    def __init__(self, budget: TokenBudget) -> None:
        self._budget = budget
        self._computed = 0
        self._elsewhere = 0
        """Tokens that no answer can find: another model thinks."""
        self._seconds = 0.0
        self._found: int | None = None
        """Tokens that were in the cache before this session computed any."""

    def wait_s(self, speed: PrefillSpeed, now: float) -> float:
        """Return the seconds until a block may be computed; 0 if it may."""
        return self._budget.wait_s(speed.block_size, now)

    def reserve(self, num_tokens: int, speed: PrefillSpeed, now: float) -> int:
        """Charge for the next slice of so many tokens that are missing; return its length.

        `wait_s` has to be 0. What comes of the slice is said with `computed`, `failed` or
        `aborted`.
        """
        most = min(self._budget.left(now), speed.slice_tokens)
        length = min(num_tokens, max(speed.block_size, speed.whole(int(most))))
        self._budget.take(length, now)
        return length

    def computed(
        self,
        reserved: int,
        num_tokens: int,
        num_cached: int,
        seconds: float,
        now: float,
        *,
        is_elsewhere: bool = False,
    ) -> None:
        """Count what was computed.

        Args:
            reserved: What was charged for it.
            num_tokens: How many were computed.
            num_cached: How many before them were not.
            is_elsewhere: Whether it is of no use to the answer.
        """
        self._budget.take(num_tokens - reserved, now)
        self._seconds += seconds
        self._count(num_tokens, num_cached, is_elsewhere=is_elsewhere)

    def failed(self, reserved: int, now: float) -> None:
        """Give back what was charged for a slice that was not computed."""
        self._budget.take(-reserved, now)

    def aborted(self, num_tokens: int, num_cached: int, *, is_elsewhere: bool = False) -> None:
        """Count all of a slice that was stopped: nobody says how far it came."""
        self._count(num_tokens, num_cached, is_elsewhere=is_elsewhere)

    def settle(self, num_cached: int, num_decoded: int = 0) -> Account:
        """Close the account of a turn.

        Nobody says which tokens were found, so `used_tokens` is the least that it can be.

        Args:
            num_cached: Prompt tokens that the answer found in the cache; 0 if there was none.
            num_decoded: Prompt tokens that may be in the cache because the model has made them.
        """
        used = max(0, min(self._computed, num_cached - (self._found or 0) - num_decoded))
        account = Account(self._computed + self._elsewhere, used, self._seconds)
        self._computed = self._elsewhere = 0
        self._seconds, self._found = 0.0, None
        return account

    def _count(self, num_tokens: int, num_cached: int, *, is_elsewhere: bool) -> None:
        if is_elsewhere:
            self._elsewhere += num_tokens
            return
        if num_tokens and self._found is None:
            self._found = num_cached
        self._computed += num_tokens
