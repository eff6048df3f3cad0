"""Copies from what has been said: prompt, conversation and the answer so far (LLMA, 2304.04487).

Where the answer's last tokens have occurred before, what followed there is the draft. Right for
edits, quotes and retrieved text.
"""

import sys
from collections.abc import Sequence

from headstart.stages.drafting import Draft, Verdict
from headstart.stages.index_budget import IndexBudget
from headstart.stages.suffix_index import SuffixIndex

__all__ = ["CopyDrafter"]

_GRADES = (3, 4, 6, 10, 18)
"""From which match length on the next grade begins: longer matches deserve longer drafts."""
_FIRST_TOKENS = 256
"""Indexed first: the end of the prompt."""
_FURTHER = 8
"""Times as much is indexed next; what is indexed twice is then an eighth."""


class CopyDrafter:
    """Drafts one request by copying.

    The newest tokens are indexed first, and an index that reaches further back takes the place of
    this one when it is done.

    Args:
        tokens: Prompt and answer so far.
        budget: Of all indexes; None indexes everything at once.
        min_match: Shortest match that is worth a draft, in tokens.
        max_context: How much of a long prompt is looked at, in tokens: its end.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        budget: IndexBudget | None = None,
        min_match: int = 2,
        max_context: int = 16_384,
    ) -> None:
        self._tokens = list(tokens[-max_context:])
        self._budget = budget or IndexBudget(sys.maxsize, sys.maxsize)
        self._min_match = min_match
        self._index: SuffixIndex | None = None
        """Of all tokens from some place on."""
        self._coming: SuffixIndex | None = SuffixIndex()
        """Of the tokens from `_first` on, as far as it has got. None: there is no more to index."""
        self._first = max(0, len(self._tokens) - _FIRST_TOKENS)
        self._budget.join(self)
        if budget is None:
            self._go_on()

    @property
    def num_indexed(self) -> int:
        """Tokens that are held in indexes."""
        return sum(len(each.tokens) for each in (self._index, self._coming) if each is not None)

    @property
    def num_wanted(self) -> int:
        """Tokens that are to be indexed next."""
        if self._coming is None:
            return 0
        return len(self._tokens) - self._first - len(self._coming.tokens)

    def observe(self, verdict: Verdict) -> None:
        self._go_on()
        self._tokens.extend(verdict.tokens)
        if self._index is not None:
            self._index.extend(verdict.tokens)
            if self._budget.is_exceeded:
                self._start_over()

    def draft(self, max_tokens: int) -> Draft | None:
        index = self._index
        if index is None or index.match is None or max_tokens < 1:
            return None
        if index.match.length < self._min_match:
            return None
        grade = sum(index.match.length >= length for length in _GRADES)
        return Draft(index.continuation(max_tokens), grade)

    def _start_over(self) -> None:
        self._budget.give_back(self.num_indexed)
        self._index, self._coming = None, SuffixIndex()
        self._first = max(0, len(self._tokens) - _FIRST_TOKENS)

    def _go_on(self) -> None:
        """Index as much as may be now, piece after piece."""
        while (coming := self._coming) is not None:
            at = self._first + len(coming.tokens)
            end = at + self._budget.take(self)
            coming.extend(self._tokens[at:end])
            if end < len(self._tokens):
                return
            self._replace(coming)

    def _replace(self, coming: SuffixIndex) -> None:
        """Use an index that is done, and begin one that reaches further back."""
        if self._index is not None:
            self._budget.give_back(len(self._index.tokens))
        self._index, self._coming = coming, None
        if self._first > 0:
            self._coming = SuffixIndex()
            self._first = max(0, len(self._tokens) - _FURTHER * len(coming.tokens))
