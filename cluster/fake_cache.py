"""The fake engine's prefix cache: it holds no keys and values, but counts like one that does."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

__all__ = ["PrefixCache"]


class PrefixCache:
    """Remembers which prompts were computed, in whole blocks, as vLLM does.

    Args:
        block_size: Tokens per block.
        max_blocks: Most blocks to remember; the least recently used go first.
    """

    def __init__(self, block_size: int, max_blocks: int = 1 << 16) -> None:
        self._block_size = block_size
        self._max_blocks = max_blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def count(self, prompt: Sequence[int], salt: str | None) -> int:
        """Return how many tokens at the head of `prompt` need not be computed.

        Never all of them: the last one's output is what the answer begins with.
        """
        num_found = 0
        for key in self._keys(prompt[:-1], salt):
            if key not in self._blocks:
                break
            self._blocks.move_to_end(key)
            num_found += self._block_size
        return num_found

    def add(self, prompt: Sequence[int], salt: str | None) -> None:
        """Remember a computed prompt."""
        for key in self._keys(prompt, salt):
            self._blocks[key] = None
            self._blocks.move_to_end(key)
        while len(self._blocks) > self._max_blocks:
            self._blocks.popitem(last=False)

    def _keys(self, prompt: Sequence[int], salt: str | None) -> Iterator[int]:
        """Yield one key for each whole block; a block's key covers everything before it."""
        key = hash(salt)
        for end in range(self._block_size, len(prompt) + 1, self._block_size):
            key = hash((key, *prompt[end - self._block_size : end]))
            yield key
