"""Jacobi decoding of one request: the model's own predictions are the next guess.

One forward pass over a block of guesses gives the model's prediction at every position at once.
Those up to the first wrong guess are final; the later ones, made on a prefix that was wrong, are
still the best guess there is: they become the next block's beginning (2403.00835). What the model
said behind a guess that was rejected is kept in a pool, and is tried where the answer gets to that
guess (2512.14681's rejection recycling).

There are several candidates for each block, and one is verified: a row of a batch has one draft
(docs/adr/0011). Which of them would have been right is known a step later at no cost, whichever
was verified; so the kind is chosen that was right most often.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

from headstart.stages.drafting import Draft, Verdict

__all__ = ["JacobiBlock"]

_MULTIPLIER, _INCREMENT, _MODULUS = 1103515245, 12345, 1 << 31
"""Of the generator that picks where there is nothing to guess from; same request, same picks."""

_MOST_SAID = 2_048
"""Of what has been said, tokens at its end whose followers are known."""
_JUDGED = 4
"""Tokens of each candidate that are compared with what came."""
_WEIGHT = 0.1
"""Of the latest step, in how far a kind of candidate is right."""

_TAIL, _POOL, _SAID = range(3)


class JacobiBlock:
    """Guesses for one request.

    Args:
        tokens: Prompt and answer so far; where nothing better is known, guesses are drawn from
            them.
        block_tokens: Length of a block, the known token included.
        pool_size: Followers of rejected guesses that are kept.
    """

    def __init__(self, tokens: Sequence[int], block_tokens: int, pool_size: int = 512) -> None:
        self._context = list(tokens)
        self._block_tokens = block_tokens
        self._tail: list[int] = []
        self._pool = _Followers(pool_size)
        self._said = _Followers(2 * _MOST_SAID)
        self._said.follow(self._context[-_MOST_SAID:])
        self._draw = len(self._context)
        self._rightness = [0.0, 0.0, 0.0]
        """Mean number of tokens that each kind of candidate had right, of those judged."""
        self._candidates: list[list[int]] = []
        """Beginnings of the latest block's, by kind."""

    def observe(self, verdict: Verdict) -> None:
        gained = list(verdict.tokens)
        self._judge(gained)
        if verdict.predictions:
            self._recycle(verdict)
        else:  # a step that verified nothing: what it gave may be what was guessed
            fits = self._tail[: len(gained)] == gained
            self._tail = self._tail[len(gained) :] if fits else []
        self._said.follow([*self._context[-2:], *gained])
        self._context.extend(gained)

    def draft(self, max_tokens: int) -> Draft | None:
        length = min(max_tokens, self._block_tokens - 1)
        if length < 1 or not self._context:
            return None
        walks = [self._walk(kind) for kind in (_TAIL, _POOL, _SAID)]
        heads = [list(islice(walk, min(length, _JUDGED))) for walk in walks]
        self._candidates = [[token for token, _ in head] for head in heads]
        best = max((_TAIL, _POOL, _SAID), key=self._rightness.__getitem__)
        block = [*heads[best], *islice(walks[best], length - len(heads[best]))]
        return Draft([token for token, _ in block], block[0][1])

    def _judge(self, gained: list[int]) -> None:
        """Learn from what came how far each kind of candidate would have been right."""
        for kind, candidate in enumerate(self._candidates):
            right = _num_alike(candidate, gained)
            self._rightness[kind] += _WEIGHT * (right - self._rightness[kind])
        self._candidates = []

    def _recycle(self, verdict: Verdict) -> None:
        """Keep what the model said behind the first wrong guess: to go on with, and in the pool."""
        wrong = verdict.num_accepted
        tail = self._tail = list(verdict.predictions[wrong + 1 :])
        if not tail:
            return
        self._pool.follow([*verdict.tokens[-1:], *tail])
        # It read the guesses, not what it said of them: that it follows those is more certain.
        guesses = verdict.drafted[wrong:]
        for at, (token, follower) in enumerate(zip(guesses, tail, strict=False)):
            self._pool.add(guesses[at - 1] if at else None, token, follower)

    def _walk(self, first: int) -> Iterator[tuple[int, int]]:
        """Yield guess after guess, each with its grade: where it is from.

        Args:
            first: The kind that is asked first for each.
        """
        tail, pool, said = self._tail, self._pool.find, self._said.find
        before = self._context[-2] if len(self._context) > 1 else None
        token, at, draw = self._context[-1], 0, self._draw
        order = (first, *(kind for kind in (_TAIL, _POOL, _SAID) if kind != first))
        while True:
            found: int | None = None
            grade = 0
            for kind in order:
                if kind == _TAIL:
                    found = tail[at] if at < len(tail) else None
                else:
                    found = (pool if kind == _POOL else said)(before, token)
                if found is not None:
                    grade = 1 + kind
                    break
            if found is None:
                draw = (draw * _MULTIPLIER + _INCREMENT) % _MODULUS
                self._draw = draw
                found = self._context[(draw >> 8) % len(self._context)]
            yield found, grade
            before, token, at = token, found, at + 1


class _Followers:
    """What came behind a token the last time, and behind two of them.

    Args:
        most: Number that are kept; the oldest are forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._after: dict[int | tuple[int, int], int] = {}

    def follow(self, tokens: Sequence[int]) -> None:
        """Take what follows what in a run of tokens."""
        before: int | None = None
        for token, follower in pairwise(tokens):
            self.add(before, token, follower)
            before = token

    def add(self, before: int | None, token: int, follower: int) -> None:
        """Take one follower."""
        after = self._after
        for key in (token,) if before is None else (token, (before, token)):
            after.pop(key, None)
            after[key] = follower
        while len(after) > self._most:
            del after[next(iter(after))]

    def find(self, before: int | None, token: int) -> int | None:
        """Return what follows; None where the token is unknown."""
        found = None if before is None else self._after.get((before, token))
        return self._after.get(token) if found is None else found


def _num_alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of what two runs have in common at their beginning."""
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)
