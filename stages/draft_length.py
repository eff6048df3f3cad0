"""How many tokens to draft in the next step: as many as pay for their verification, down to none.

A drafted token is worth the chance that it and all before it are right; it costs what a step gets
slower by verifying it. Both are learnt: acceptance by position here, and the seconds of a step in
`step_cost`. The same rule serves every proposer and every batch size.
"""

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import accumulate, chain, islice, repeat
from operator import mul

from headstart.stages.speculation_labels import Position
from headstart.stages.step_cost import StepCost

__all__ = ["Acceptance", "DraftLengths"]

_TYPICAL_TOKENS = 4
"""Of a step, for what one more drafted token costs: the first also pays for the other sampler."""

_NUMBERS = {position: number for number, position in enumerate(Position)}
_LAST_GROUP = len(_NUMBERS) - 1
"""Tokens of a draft are learnt together that are counted together."""
_GROUPS = tuple(_NUMBERS[Position.of(index)] for index in range(64))
"""By position; those further on are of the last group."""

_DOUBTED = 10
"""Drafts that were right as far as they went and ended before a position, until what is known of it
counts for a third; the more is known, the more of them. A few wrong guesses at first would keep
drafts short for ever."""


def _group(position: int) -> int:
    return _GROUPS[position] if position < len(_GROUPS) else _LAST_GROUP


class Acceptance:
    """How often a drafted token is right, given that those before it were.

    Args:
        prior: What to believe before anything has been seen; None believes that one of two first
            tokens is right, and later ones as often as those before.
        memory: Number of verdicts on a position that count; older ones fade.
        belief: How many verdicts the prior is worth.
    """

    def __init__(
        self, prior: "Acceptance | None" = None, memory: float = 200.0, belief: float = 4.0
    ) -> None:
        self._prior = prior
        self._memory = memory
        self._belief = belief
        self._tries = [0.0] * (_LAST_GROUP + 1)
        self._hits = [0.0] * (_LAST_GROUP + 1)
        self._known: list[float] | None = None
        """Rates by group, where there is no prior and they have been asked for since they changed:
        what is known of all is asked for by every request."""

    def observe(self, num_drafted: int, num_accepted: int) -> None:
        """Note that the first `num_accepted` of a draft were right and the next, if any, wrong."""
        self._known = None
        for position in range(min(num_accepted + 1, num_drafted)):
            group = _group(position)
            if self._tries[group] >= self._memory:
                fade = 1 - 1 / self._memory
                self._tries[group] *= fade
                self._hits[group] *= fade
            self._tries[group] += 1
            self._hits[group] += position < num_accepted
        if num_drafted and num_accepted >= num_drafted:
            for group in range(_group(num_drafted - 1) + 1, _LAST_GROUP + 1):
                kept = 1 - 1 / (_DOUBTED + self._tries[group] / 5)
                self._tries[group] *= kept
                self._hits[group] *= kept

    def _rates(self) -> list[float]:
        """Return, for each group, how often a token is right."""
        if self._known is not None:
            return self._known
        belief, learnt = self._belief, zip(self._hits, self._tries, strict=True)
        if self._prior is not None:
            priors = self._prior._rates()  # noqa: SLF001 - of the same class
            pairs = zip(priors, learnt, strict=True)
            return [(hits + belief * rate) / (tries + belief) for rate, (hits, tries) in pairs]
        # Positions that no draft has reached yet are believed to be like those before.
        rate = 0.5
        self._known = [rate := (hits + belief * rate) / (tries + belief) for hits, tries in learnt]
        return self._known

    def survival(self, length: int) -> list[float]:
        """Return, for each position, the chance that it and all before it are right."""
        groups = islice(chain(_GROUPS, repeat(_LAST_GROUP)), length)
        return list(accumulate(map(self._rates().__getitem__, groups), mul))


class DraftLengths:
    """Shares out what a step can verify.

    Args:
        cost: Learns from the same steps.
        margin: By how much drafting must be expected to win before it begins; going on it need
            only not lose, so that a draw does not flip from step to step.
        patience: For how many steps what a plain step costs is believed, where drafting gains
            nothing; the more it gains, the longer.
    """

    def __init__(self, cost: StepCost, margin: float = 0.05, patience: int = 64) -> None:
        self._cost = cost
        self._margin = margin
        self._patience = patience
        self.is_on = False
        """Whether the latest step drafted anything."""
        self.is_in_doubt = False
        """Whether it drafted nothing so that a plain step is measured."""

    def choose(
        self, survivals: Sequence[Sequence[float]], slack_s: Sequence[float] | None = None
    ) -> list[int]:
        """Return how many tokens each row drafts so that the batch gains most tokens a second.

        Args:
            survivals: For each row of the batch, `Acceptance.survival` of what is on offer for it;
                empty where that is nothing.
            slack_s: For each row, by how many seconds it may fall behind plain decoding so that
                others are drafted for. None sets no limit.
        """
        num_rows = len(survivals)
        plain_s = self._cost.seconds(num_rows)
        ranked = sorted(
            (-chance, position, row)
            for row, chances in enumerate(survivals)
            for position, chance in enumerate(chances)
        )
        limits = _Limits(plain_s, slack_s)
        gained, best, best_count = float(num_rows), 0.0, 0
        most = num_rows - sum(loss for loss, _, _ in ranked)
        step_s = self._cost.by_drafted(num_rows)
        for count, (loss, _, row) in enumerate(ranked, start=1):
            gained -= loss
            limits.gain(row, -loss)
            seconds = step_s(count)
            if most / seconds <= best:
                break  # all that is left would not make up for the time
            if gained / seconds > best and seconds <= limits.seconds:
                best, best_count = gained / seconds, count
        gain = best * plain_s / num_rows
        self.is_in_doubt = False
        if gain <= (1 if self.is_on else 1 + self._margin):
            self.is_on = False
        elif self._cost.knows_plain(num_rows, self._patience * gain):
            self.is_on = True
        else:
            self.is_in_doubt = True  # so that what is compared with is known
            return [0] * num_rows
        lengths = [0] * num_rows
        for _, _, row in ranked[: best_count if self.is_on else 0]:
            lengths[row] += 1
        return lengths

    def price(self, num_rows: int) -> float:
        """Return how sure a further token must be to be worth verifying."""
        drafted = self._cost.seconds(num_rows, _TYPICAL_TOKENS)
        return num_rows * (drafted / self._cost.seconds(num_rows) - 1) / _TYPICAL_TOKENS


class _Limits:
    """How long a step may take, so that no row falls too far behind plain decoding."""

    def __init__(self, plain_s: float, slack_s: Sequence[float] | None) -> None:
        self._plain_s = plain_s
        self._rows = [plain_s + slack for slack in slack_s or ()]
        self._heap = sorted((limit, row) for row, limit in enumerate(self._rows))

    @property
    def seconds(self) -> float:
        """The limit."""
        while self._heap and self._rows[self._heap[0][1]] != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def gain(self, row: int, num_tokens: float) -> None:
        """Note that a step gives a row so many more tokens, by expectation."""
        if self._rows:
            self._rows[row] += num_tokens * self._plain_s
            heappush(self._heap, (self._rows[row], row))
