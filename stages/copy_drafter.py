"""Copies from what has been said: prompt, conversation and the answer so far (LLMA, 2304.04487).

Where the answer's last tokens have occurred before, what followed there is the draft. Right for
edits, quotes and retrieved text.
"""

from collections.abc import Sequence

from headstart.stages.drafting import Draft, Verdict
from headstart.stages.suffix_index import SuffixIndex

__all__ = ["CopyDrafter"]

_GRADES = (3, 4, 6, 10, 18)
"""From which match length on the next grade begins: longer matches deserve longer drafts."""


class CopyDrafter:
    """Drafts one request by copying.

    Args:
        tokens: Prompt and answer so far.
        min_match: Shortest match that is worth a draft, in tokens.
        max_context: How much of a long prompt is looked at, in tokens: its end. A token takes about
            half a kilobyte and a microsecond.
    """

    def __init__(
        self, tokens: Sequence[int], min_match: int = 2, max_context: int = 16_384
    ) -> None:
        self._index = SuffixIndex(tokens[-max_context:])
        self._min_match = min_match

    def observe(self, verdict: Verdict) -> None:
        self._index.extend(verdict.tokens)

    def draft(self, max_tokens: int) -> Draft | None:
        match = self._index.match
        if match is None or match.length < self._min_match or max_tokens < 1:
            return None
        grade = sum(match.length >= length for length in _GRADES)
        return Draft(self._index.continuation(max_tokens), grade)
