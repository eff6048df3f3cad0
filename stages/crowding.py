"""Where the KV cache is nearly full: drafts that would take the last of it are not made.

A drafted token needs its place in the cache before anybody knows whether it is right. Where no
block is free the engine preempts a request, which is computed again later, be it one that nothing
was drafted for. What fits in the block of an answer's newest token takes nothing from anybody.
"""

import math
from collections.abc import Collection, Sequence

__all__ = ["Crowding"]

_RECOUNTED = 16
"""Steps for which it is believed how many blocks are held by more than one request."""


class Crowding:
    """How much room for drafts a KV cache has.

    Args:
        num_blocks: Blocks of the whole cache that requests can hold.
        block_tokens: Tokens in a block.
        max_tokens: Most tokens in a draft.
    """

    def __init__(self, num_blocks: int, block_tokens: int, max_tokens: int) -> None:
        self._num_blocks = num_blocks
        self._block_tokens = block_tokens
        self._row_blocks = 1 + math.ceil(max_tokens / block_tokens)
        self._num_shared = 0
        """Blocks counted too often if each request is counted for itself: of common prefixes."""
        self._counted_ago = _RECOUNTED
        self.is_crowded = False
        """Whether there is no room for another step such as the latest, with full drafts."""

    def step(self, held: Collection[Sequence[Sequence[int]]], num_tokens: int) -> None:
        """Look at the cache after a step.

        Args:
            held: For each request, the blocks that it holds, by kind of cache.
            num_tokens: What the step computed, with prompts.
        """
        wanted = len(held) * self._row_blocks + math.ceil(num_tokens / self._block_tokens)
        most = self._num_blocks - wanted
        num_held = sum(len(blocks) for each in held for blocks in each)
        self._counted_ago += 1
        if num_held > most and self._counted_ago >= _RECOUNTED:
            found = set[int]().union(*(blocks for each in held for blocks in each))
            self._num_shared, self._counted_ago = num_held - len(found), 0
        self.is_crowded = num_held - self._num_shared > most

    def room(self, num_tokens: int, most: int) -> int:
        """Return how many tokens may be drafted for a request in the next step.

        Args:
            num_tokens: Of the request, prompt and answer.
            most: How many may if the cache has room.
        """
        return min(most, -num_tokens % self._block_tokens) if self.is_crowded else most
