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

from collections.abc import Sequence

from headstart.stages.drafting import Draft, Verdict

__all__ = ["SAID_GRADE", "JacobiBlock"]

_MULTIPLIER, _INCREMENT, _MODULUS = 1103515245, 12345, 1 << 31
"""Of the generator that picks where there is nothing to guess from; same request, same picks."""

_MOST_SAID = 2_048
"""Of what has been said, tokens at its end whose followers are known."""
_JUDGED = 4
"""Tokens of each candidate that are compared with what came."""
_WEIGHT = 0.1
"""Of the latest step, in how far a kind of candidate is right."""

_DRAWN, _TAIL, _POOL, _SAID = range(-1, 3)

SAID_GRADE = 1 + _SAID
"""Of drafts that begin with what followed the last tokens before, in prompt or answer."""


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
        kinds = (_TAIL, _POOL, _SAID)
        best = max(kinds, key=self._rightness.__getitem__)
        judged = min(length, _JUDGED)
        guesses = [self._guess(kind, length if kind == best else judged) for kind in kinds]
        self._candidates = [tokens[:judged] for tokens, _ in guesses]
        return Draft(*guesses[best])

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
        self._pool.add(verdict.drafted[wrong:], tail)

    def _guess(self, first: int, length: int) -> tuple[list[int], int]:
        """Return guess after guess, and the grade of the first of them: where it is from.

        Args:
            first: The kind that is asked first for each.
        """
        tail, pool, said = self._tail, (_POOL, self._pool), (_SAID, self._said)
        (near_kind, near), (far_kind, far) = (said, pool) if first == _SAID else (pool, said)
        found = tail[:length] if first == _TAIL else []
        grade = 1 + _TAIL
        run = [*self._context[-2:], *found]
        before, token = run[-2] if len(run) > 1 else None, run[-1]
        for at in range(len(found), length):
            kind, guess = near_kind, near.find(before, token)
            if guess is None and at < len(tail):
                kind, guess = _TAIL, tail[at]
            if guess is None:
                kind, guess = far_kind, far.find(before, token)
            if guess is None:
                kind, guess = _DRAWN, self._drawn()
            if not found:
                grade = 1 + kind
            found.append(guess)
            before, token = token, guess
        return found, grade

    def _drawn(self) -> int:
        """Return one of the tokens that have been said."""
        self._draw = (self._draw * _MULTIPLIER + _INCREMENT) % _MODULUS
        return self._context[(self._draw >> 8) % len(self._context)]


class _Followers:
    """What came behind a token the last time, and behind two of them.

    Args:
        most: Number that are kept; the oldest are forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._after: dict[int | tuple[int | None, int], int] = {}

    def follow(self, tokens: Sequence[int]) -> None:
        """Take what follows what in a run of tokens."""
        self.add(tokens, tokens[1:])

    def add(self, tokens: Sequence[int], followers: Sequence[int]) -> None:
        """Take a follower for each token of a run, as far as there are followers."""
        after = self._after
        before: int | None = None
        for token, follower in zip(tokens, followers, strict=False):
            # What is known anew is forgotten last.
            after.pop(token, None)
            after[token] = follower
            if before is not None:
                pair = before, token
                after.pop(pair, None)
                after[pair] = follower
            before = token
        while len(after) > self._most:
            del after[next(iter(after))]

    def find(self, before: int | None, token: int) -> int | None:
        """Return what follows; None where the token is unknown."""
        found = self._after.get((before, token))  # nothing is known behind None
        return self._after.get(token) if found is None else found


def _num_alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of what two runs have in common at their beginning."""
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)
