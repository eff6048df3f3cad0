"""Jacobi decoding of one request: the model's own predictions are the next guess.

One forward pass over a block of guesses gives the model's prediction at every position at once.
Those up to the first wrong guess are final; the later ones, made on a prefix that was wrong, are
still the best guess there is: they become the next block's beginning (2403.00835). Runs of
predictions that were rejected are kept in a small pool: where the answer reaches the first token
of one, its rest is a candidate (2512.14681's rejection recycling).
"""

from collections import deque
from collections.abc import Sequence

from headstart.stages.drafting import Draft, Verdict

__all__ = ["JacobiBlock"]

_MULTIPLIER, _INCREMENT, _MODULUS = 1103515245, 12345, 1 << 31
"""Of the generator that picks where there is nothing to guess from; same request, same picks."""


class JacobiBlock:
    """Guesses for one request.

    Args:
        tokens: Prompt and answer so far; where nothing better is known, guesses are drawn from
            them.
        block_tokens: Length of a block, the known token included.
        pool_size: How many rejected runs are kept.
    """

    def __init__(self, tokens: Sequence[int], block_tokens: int, pool_size: int = 4) -> None:
        self._context = list(tokens)
        self._block_tokens = block_tokens
        self._tail: list[int] = []
        self._runs: deque[list[int]] = deque(maxlen=pool_size)
        self._draw = len(self._context)

    def observe(self, verdict: Verdict) -> None:
        gained = list(verdict.tokens)
        if verdict.predictions:
            self._tail = list(verdict.predictions[verdict.num_accepted + 1 :])
            if self._tail and gained:
                self._runs.append([gained[-1], *self._tail])
        else:  # a step that verified nothing: what it gave may be what was guessed
            fits = self._tail[: len(gained)] == gained
            self._tail = self._tail[len(gained) :] if fits else []
        self._context.extend(verdict.tokens)

    def draft(self, max_tokens: int) -> Draft | None:
        length = min(max_tokens, self._block_tokens - 1)
        if length < 1 or not self._context:
            return None
        recycled = self._recycled()
        guess, grade = (self._tail, 1) if self._tail else ([], 0)
        if len(recycled) > len(guess):
            guess, grade = recycled, 2
        known = guess[:length]
        return Draft(known + [self._drawn() for _ in range(length - len(known))], grade)

    def _recycled(self) -> list[int]:
        """The rest of the newest rejected run that holds the last token of the answer."""
        last = self._context[-1]
        runs = list(self._runs)
        if self._tail:
            runs.pop()  # it is the tail
        for run in reversed(runs):
            if last in run[:-1]:
                return run[run.index(last) + 1 :]
        return []

    def _drawn(self) -> int:
        self._draw = (self._draw * _MULTIPLIER + _INCREMENT) % _MODULUS
        return self._context[(self._draw >> 8) % len(self._context)]
