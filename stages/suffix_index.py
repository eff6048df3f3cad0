"""Where the end of a token sequence has occurred before: longest match first, one token at a time.

A suffix automaton. Appending a token costs amortised O(1), whatever the length, and the longest
suffix that also occurs earlier is known after each append; nothing is scanned.
"""

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Match", "SuffixIndex"]

_ROOT = 0


class Match(NamedTuple):
    """An earlier occurrence of the sequence's last tokens."""

    length: int
    """How many of the last tokens occur there; no longer suffix occurs twice."""
    end: int
    """Index of the token that followed there."""


class SuffixIndex:
    """A growing token sequence, and the longest of its suffixes that it has had before."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self.tokens: list[int] = []
        self.match: Match | None = None
        """None while the last token is a new one. Of several places a recent one."""
        # States of the automaton, side by side: a state is a set of substrings that end alike.
        self._next: list[dict[int, int]] = [{}]
        self._link = [-1]
        self._length = [0]
        self._end = [0]
        self._last = _ROOT
        self.extend(tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens."""
        for token in tokens:
            self._append(token)

    def continuation(self, length: int) -> list[int]:
        """Return `length` tokens that followed the match; past the end it repeats itself."""
        if self.match is None:
            return []
        end = self.match.end
        found = self.tokens[end : end + length]
        period = len(self.tokens) - end
        while len(found) < length:
            found.append(found[len(found) - period])
        return found

    def _append(self, token: int) -> None:
        self.tokens.append(token)
        end = len(self.tokens)
        state = self._add({}, end, end)
        before = self._last
        while before >= 0 and token not in self._next[before]:
            self._next[before][token] = state
            before = self._link[before]
        self._link[state] = _ROOT if before < 0 else self._parent(before, token)
        self._last = state
        parent = self._link[state]
        length = self._length[parent]
        self.match = Match(length, self._end[parent]) if length else None
        self._end[parent] = end

    def _parent(self, before: int, token: int) -> int:
        """Return the state of the longest suffix that had occurred, split off if it must be."""
        found = self._next[before][token]
        if self._length[before] + 1 == self._length[found]:
            return found
        split = self._add(dict(self._next[found]), self._length[before] + 1, self._end[found])
        self._link[split] = self._link[found]
        while before >= 0 and self._next[before].get(token) == found:
            self._next[before][token] = split
            before = self._link[before]
        self._link[found] = split
        return split

    def _add(self, following: dict[int, int], length: int, end: int) -> int:
        self._next.append(following)
        self._link.append(_ROOT)
        self._length.append(length)
        self._end.append(end)
        return len(self._length) - 1
