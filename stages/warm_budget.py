"""How much may be prefilled before anybody has asked, and how fast that goes.

Both are shared: a budget by all sessions of a key, or of the gateway; a speed by all sessions of a
replica.
"""

from math import inf

from headstart.stages.rate_limit import Bucket

__all__ = ["PrefillSpeed", "WarmBudget"]

_WEIGHT = 0.3
"""Of the latest slice in the mean of all."""


class WarmBudget:
    """Prompt tokens that may be computed ahead, a minute.

    Args:
        buckets: One for each group that the session belongs to.
    """

    def __init__(self, *buckets: Bucket) -> None:
        self._buckets = buckets

    def left(self, now: float) -> float:
        """Return how many tokens may be computed now."""
        return min((bucket.level(now) for bucket in self._buckets), default=inf)

    def wait_s(self, num_tokens: int, now: float) -> float:
        """Return the seconds until so many tokens may be computed; 0 if they may.

        More than a bucket holds is asked for when it is full.
        """
        return max(
            (bucket.wait_s(now, min(num_tokens, bucket.capacity)) for bucket in self._buckets),
            default=0.0,
        )

    def take(self, num_tokens: int, now: float) -> None:
        """Charge for so many tokens; below zero gives back what was not computed."""
        for bucket in self._buckets:
            bucket.take(num_tokens, now)


class PrefillSpeed:
    """Prompt tokens a second of one replica, as measured on slices.

    Args:
        block_size: Tokens in a block of its prefix cache.
        slice_s: How long a slice shall take.
    """

    def __init__(self, block_size: int, slice_s: float) -> None:
        self.block_size = block_size
        self._slice_s = slice_s
        self._tokens_per_s = 0.0

    def whole(self, num_tokens: int) -> int:
        """Return how many of so many tokens are in whole blocks."""
        return num_tokens // self.block_size * self.block_size

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Take what one slice took; what was cached says nothing of the speed."""
        if num_tokens <= 0 or seconds <= 0:
            return
        speed = num_tokens / seconds
        if not self._tokens_per_s or speed < self._tokens_per_s:
            self._tokens_per_s = speed  # a slice that took too long must not be followed by another
        else:
            self._tokens_per_s += _WEIGHT * (speed - self._tokens_per_s)

    @property
    def slice_tokens(self) -> int:
        """Tokens of the next slice: whole blocks, at least one."""
        return max(self.block_size, self.whole(int(self._tokens_per_s * self._slice_s)))
