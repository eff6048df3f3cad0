"""Room that several owners share, so that none of them can take it all."""

from collections import Counter

__all__ = ["SharedRoom"]


class SharedRoom:
    """So many bytes, of which an owner gets no more than what is left free beside it.

    One owner alone gets half, a second half of the rest, and so on: however much the first ones
    hold, one who comes later finds some (dynamic thresholds, Choudhury and Hahne 1998).

    Args:
        max_bytes: All that there is.
    """

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes
        self._held: Counter[str] = Counter()

    @property
    def free_bytes(self) -> int:
        """What nobody has."""
        return self._free_bytes

    def take(self, owner: str, size_bytes: int) -> bool:
        """Give `owner` so many bytes, or return False.

        Args:
            owner: Who shares with others; empty is one who shares with nobody, and may have all.
        """
        free_bytes = self._free_bytes - size_bytes
        if free_bytes < 0 or (owner and self._held[owner] + size_bytes > free_bytes):
            return False
        self._free_bytes = free_bytes
        self._held[owner] += size_bytes
        return True

    def give_back(self, owner: str, size_bytes: int) -> None:
        """Free what `take` gave."""
        self._free_bytes += size_bytes
        self._held[owner] -= size_bytes
        if not self._held[owner]:
            del self._held[owner]
