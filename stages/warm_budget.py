"""How much may be prefilled before anybody has asked, and how fast that goes.

Both are shared: a budget by all sessions of a key, or of the gateway; a speed by all sessions of a
replica.
"""

from collections import deque
from itertools import combinations
from math import inf
from statistics import median

from headstart.stages.rate_limit import Bucket

__all__ = ["RETRY_S", "PrefillSpeed", "TokenBudget"]

RETRY_S = 1.0
"""Before a replica is asked again: it could not do it, or requests were waiting."""
_MEMORY = 16
"""Slices of a replica that are remembered."""
_GROWTH = 2
"""Times as many tokens as the largest of them, at most: nobody knows what more would take."""


class TokenBudget:
    """Tokens that may be computed ahead, or thought, a minute.

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
    """What slices of one replica take: a fixed time, and a time for every token.

    Both are medians over the latest slices, so that one that was slow by chance, as the first ones
    of an engine are, says little.

    Args:
        block_size: Tokens in a block of its prefix cache.
        slice_s: How long a slice shall take.
    """

    def __init__(self, block_size: int, slice_s: float) -> None:
        self.block_size = block_size
        self._slice_s = slice_s
        self._seen: deque[tuple[int, float]] = deque(maxlen=_MEMORY)
        """Tokens and seconds of the latest slices."""

    def whole(self, num_tokens: int) -> int:
        """Return how many of so many tokens are in whole blocks."""
        return num_tokens // self.block_size * self.block_size

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Take what one slice took; what was cached says nothing of the speed."""
        if num_tokens > 0 and seconds > 0:
            self._seen.append((num_tokens, seconds))

    @property
    def slice_tokens(self) -> int:
        """Tokens of the next slice: whole blocks, at least one."""
        if not self._seen:
            return self.block_size
        fixed_s, token_s = self._cost()
        most: float = _GROWTH * max(tokens for tokens, _ in self._seen)
        if token_s > 0:
            most = min(most, (self._slice_s - fixed_s) / token_s)
        tokens, seconds = self._seen[-1]
        if seconds > self._slice_s:  # one that took too long must not be followed by another
            most = min(most, tokens * self._slice_s / seconds)
        return max(self.block_size, self.whole(int(most)))

    def _cost(self) -> tuple[float, float]:
        """Return the fixed time and the time of a token (after Theil and Sen), in seconds."""
        slopes = [
            (more_s - less_s) / (more - less)
            for (less, less_s), (more, more_s) in combinations(sorted(self._seen), 2)
            if more > less
        ]
        if slopes:
            token_s = max(0.0, median(slopes))
        else:  # all of one size, which says nothing of their parts: half of each
            token_s = median(seconds / tokens for tokens, seconds in self._seen) / 2
        return median(seconds - token_s * tokens for tokens, seconds in self._seen), token_s
