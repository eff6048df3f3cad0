"""Which of the target's tokens a drafter knows: all, or those that answers are made of.

A head over a tenth of the vocabulary costs a tenth; a token that is not in it is never drafted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.stages.errors import SetupError

__all__ = ["Vocabulary", "chosen", "counted"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Vocabulary:
    """The target's ids as a drafter's, and back."""

    size: int
    """Of the target's vocabulary."""
    kept: tuple[int, ...] | None = None
    """Ids that the drafter knows, in order; None is all. One more of its own stands for others."""

    @property
    def own_size(self) -> int:
        """How many ids the drafter's embedding has."""
        return self.size if self.kept is None else len(self.kept) + 1

    @property
    def unknown(self) -> int | None:
        """The drafter's id of what it does not know."""
        return None if self.kept is None else len(self.kept)

    @cached_property
    def _own(self) -> Ints:
        if self.kept is None:
            return np.arange(self.size)
        own = np.full(self.size, len(self.kept))
        own[np.array(self.kept)] = np.arange(len(self.kept))
        return own

    def own(self, tokens: Sequence[int]) -> Ints:
        """Return the drafter's ids of the target's tokens."""
        return self._own[np.asarray(tokens, dtype=np.int64)]

    def as_json(self) -> dict[str, Any]:
        return {"size": self.size, "kept": None if self.kept is None else list(self.kept)}

    @classmethod
    def of_json(cls, plain: dict[str, Any]) -> "Vocabulary":
        """Read what `as_json` gave.

        Raises:
            SetupError: It is none.
        """
        kept = plain.get("kept")
        size = plain.get("size")
        if not isinstance(size, int) or not (kept is None or sorted(set(kept)) == kept):
            raise SetupError("the drafter's vocabulary is damaged: train or trim it again")
        return cls(size, None if kept is None else tuple(kept))


def counted(sequences: Iterable[Sequence[int]]) -> Counter[int]:
    """Count tokens."""
    counts: Counter[int] = Counter()
    for each in sequences:
        counts.update(each)
    return counts


def chosen(counts: Sequence[Counter[int]], keep: int, always: Iterable[int]) -> list[int]:
    """Return the ids to keep, in order: those with the largest shares of what is counted.

    Args:
        counts: Of texts of several kinds, each as important as the others: of answers, which are
            drafted, and of what stands before them, which the drafter has to read.
        keep: How many; 0 is all that are used.
        always: Ids that stay whatever happens, such as an answer's end.
    """
    shares: Counter[int] = Counter()
    for each in counts:
        total = max(1, each.total())
        shares.update({token: num / total for token, num in each.items()})
    found = dict.fromkeys(sorted(always))
    for token, _ in sorted(shares.items(), key=lambda item: (-item[1], item[0])):
        if keep and len(found) >= keep:
            break
        found[token] = None
    return sorted(found)
