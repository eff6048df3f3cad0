"""How many tokens to draft in the next step: as many as pay for their verification, down to none.

A drafted token is worth the chance that it and all before it are right; it costs what a step gets
slower by verifying it. Both are learnt: acceptance by position, and the seconds of a step by the
number of its tokens. The same rule serves every proposer and every batch size.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["Acceptance", "DraftLengths", "StepCost"]

_GROUPS = (0, 1, 2, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5)
"""Positions of a draft that are learnt together; later ones belong to the last group."""
_LAST_GROUP = 6


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
        self, prior: "Acceptance | None" = None, memory: float = 200.0, belief: float = 2.0
    ) -> None:
        self._prior = prior
        self._memory = memory
        self._belief = belief
        self._tries = [0.0] * (_LAST_GROUP + 1)
        self._hits = [0.0] * (_LAST_GROUP + 1)

    def observe(self, num_drafted: int, num_accepted: int) -> None:
        """Note that the first `num_accepted` of a draft were right and the next, if any, wrong."""
        for position in range(min(num_accepted + 1, num_drafted)):
            group = _group(position)
            if self._tries[group] >= self._memory:
                fade = 1 - 1 / self._memory
                self._tries[group] *= fade
                self._hits[group] *= fade
            self._tries[group] += 1
            self._hits[group] += position < num_accepted

    def _rate(self, group: int) -> float:
        if self._prior is not None:
            prior = self._prior._rate(group)  # noqa: SLF001 - of the same class
        else:
            # Positions that no draft has reached yet are believed to be like those before.
            prior = self._rate(group - 1) if group else 0.5
        return (self._hits[group] + self._belief * prior) / (self._tries[group] + self._belief)

    def survival(self, length: int) -> list[float]:
        """Return, for each position, the chance that it and all before it are right."""
        rates = [self._rate(group) for group in range(_LAST_GROUP + 1)]
        chances: list[float] = []
        chance = 1.0
        for position in range(length):
            chance *= rates[_group(position)]
            chances.append(chance)
        return chances


class StepCost:
    """Seconds of an engine step by the number of tokens it computes.

    Args:
        slope: What a further token costs, as a share of a step of one, until it is measured.
        weight: Of a new measurement.
        lifetime: Number of steps after which a measurement is forgotten: what was slow once may
            not be any more.
    """

    def __init__(self, slope: float = 0.03, weight: float = 0.1, lifetime: int = 500) -> None:
        self._slope = slope
        self._weight = weight
        self._lifetime = lifetime
        self._num_steps = 0
        self._points: dict[int, tuple[float, float, int]] = {}
        """By size class: mean tokens, mean seconds, and the step of the last measurement."""
        self._curve: list[tuple[float, float]] = []

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Take the time of a step that computed `num_tokens` and no prompt."""
        self._num_steps += 1
        size = round(4 * math.log2(num_tokens))
        tokens, mean, at = self._points.get(size, (float(num_tokens), seconds, 0))
        # One hiccup must not pass for the cost of a size.
        seconds = min(seconds, 1.5 * mean)
        # A size that is rarely seen has to learn faster from each sight.
        weight = 1 - (1 - self._weight) ** min(self._num_steps - at, 10)
        self._points[size] = (
            tokens + weight * (num_tokens - tokens),
            mean + weight * (seconds - mean),
            self._num_steps,
        )
        alive = self._num_steps - self._lifetime
        self._points = {key: each for key, each in self._points.items() if each[2] > alive}
        self._curve = self._smooth()

    def seconds(self, num_tokens: float) -> float:
        """Return what a step of `num_tokens` takes; in an arbitrary unit before any was seen."""
        if not self._curve:
            return self._guess(num_tokens)
        at = bisect_left(self._curve, (num_tokens, 0.0))
        if len(self._curve) == 1 or at == 0:
            tokens, seconds = self._curve[0]
            return seconds * self._guess(num_tokens) / self._guess(tokens)
        after = self._curve[min(at, len(self._curve) - 1)]
        # Past the largest, as it went on from the smallest: two neighbours differ by noise.
        before = self._curve[at - 1 if at < len(self._curve) else 0]
        slope = (after[1] - before[1]) / (after[0] - before[0])
        return before[1] + slope * (num_tokens - before[0])

    def _guess(self, num_tokens: float) -> float:
        return 1 + self._slope * (num_tokens - 1)

    def _smooth(self) -> list[tuple[float, float]]:
        """The measurements in order; none below one of a smaller step, which would be noise."""
        curve: list[tuple[float, float]] = []
        highest = 0.0
        for tokens, seconds, _ in sorted(self._points.values()):
            highest = max(highest, seconds)
            curve.append((tokens, highest))
        return curve


class DraftLengths:
    """Shares out what a step can verify.

    Args:
        cost: Learns from the same steps.
        margin: By how much drafting must be expected to win before it begins; going on it need
            only not lose, so that a draw does not flip from step to step.
    """

    def __init__(self, cost: StepCost, margin: float = 0.05) -> None:
        self._cost = cost
        self._margin = margin
        self.is_on = False
        """Whether the latest step drafted anything."""

    def choose(self, num_rows: int, survivals: Sequence[Sequence[float]]) -> list[int]:
        """Return how many tokens each row drafts so that the batch gains most tokens a second.

        Args:
            num_rows: Rows of the batch, those without an offer included: a token each.
            survivals: For each row with an offer, `Acceptance.survival` of it.
        """
        lengths = [0] * len(survivals)
        ranked = sorted(
            (-chance, position, row)
            for row, chances in enumerate(survivals)
            for position, chance in enumerate(chances)
        )
        plain = num_rows / self._cost.seconds(num_rows)
        gained, best, best_count = float(num_rows), 0.0, 0
        for count, (chance, _, _) in enumerate(ranked, start=1):
            gained -= chance
            speed = gained / self._cost.seconds(num_rows + count)
            if speed > best:
                best, best_count = speed, count
        needed = plain if self.is_on else plain * (1 + self._margin)
        self.is_on = best_count > 0 and best > needed
        if self.is_on:
            for _, _, row in ranked[:best_count]:
                lengths[row] += 1
        return lengths

    def price(self, num_rows: int) -> float:
        """Return how sure a further token must be to be worth verifying."""
        seconds = self._cost.seconds(num_rows)
        return num_rows * (self._cost.seconds(num_rows + 1) / seconds - 1)
