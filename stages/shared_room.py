"""Room that several owners share, so that none of them can take it all."""

from collections import Counter

__all__ = ["Share", "SharedRoom"]


class SharedRoom:
    """So many bytes, of which an owner gets no more than what is left free beside it.

    Whatever else is counted is shared in the same way.

    One owner alone gets half, a second half of the rest, and so on: however much the first ones
    hold, one who comes later finds some (dynamic thresholds, Choudhury and Hahne 1998). Who holds
    nothing gets the first one also where that is the last.

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
        free_bytes, held = self._free_bytes - size_bytes, self._held[owner] + size_bytes
        if free_bytes < 0 or (owner and held > max(1, free_bytes)):
            return False
        self.overdraw(owner, size_bytes)
        return True

    def overdraw(self, owner: str, size_bytes: int) -> None:
        """Give `owner` what it has taken already; nobody gets more before it is given back."""
        self._free_bytes -= size_bytes
        self._held[owner] += size_bytes

    def give_back(self, owner: str, size_bytes: int) -> None:
        """Free what `take` gave."""
        self._free_bytes += size_bytes
        self._held[owner] -= size_bytes
        if not self._held[owner]:
            del self._held[owner]


class Share:
    """What one thing holds of a room; it grows and shrinks.

    Args:
        room: What is shared.
        owner: Who holds it, among others.
    """

    def __init__(self, room: SharedRoom, owner: str) -> None:
        self._room = room
        self._owner = owner
        self._held = 0

    def hold(self, size: int) -> bool:
        """Hold so much from now on, or return False and hold what was held."""
        more = size - self._held
        if more > 0 and not self._room.take(self._owner, more):
            return False
        if more < 0:
            self._room.give_back(self._owner, -more)
        self._held = size
        return True

    def account_for(self, size: int) -> None:
        """Hold so much from now on, whether there is room for it or not."""
        if not self.hold(size):
            self._room.overdraw(self._owner, size - self._held)
            self._held = size

    def fits(self, size: int) -> bool:
        """Whether there is room to hold so much, if not for this owner."""
        return size - self._held <= self._room.free_bytes
