"""What an engine step costs, learnt from the steps themselves: with drafts and without.

The two are kept apart. A step that verifies takes another sampler and computes logits for every
drafted position, so four requests without drafts are not one request with three drafted tokens,
though both compute four tokens. What prompts take that are computed in the same step is taken off:
it is the same with drafts and without.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import partial

__all__ = ["StepCost"]

_NEAR = 4
"""Size classes within which a plain step speaks for another number of requests: up to twice."""
_SETTLED = 4
"""Measurements after which one may be believed for as long as any."""
_LEAST_TRUST = 0.25
"""Of a step with prompts, for it to say what one without them takes: half of its time."""


def _size_class(size: float) -> int:
    return round(4 * math.log2(size))


class _Curve:
    """Seconds by size, measured at some sizes.

    Args:
        slope: What one more costs, as a share of a step of one, where nothing is known.
        weight: Of a new measurement.
    """

    def __init__(self, slope: float, weight: float) -> None:
        self._slope = slope
        self._weight = weight
        self._points: dict[int, tuple[float, float, int, float]] = {}
        """By size class: mean size and seconds, step of the last measurement, and their number,
        each by its trust."""
        self._rising: list[tuple[float, float]] = []

    def __bool__(self) -> bool:
        return bool(self._points)

    def observe(self, size: int, seconds: float, step: int, trust: float = 1.0) -> None:
        """Take a measurement, which counts as much as it is trusted."""
        key = _size_class(size)
        known, mean, at, count = self._points.get(key, (float(size), seconds, 0, 0.0))
        # One hiccup must not pass for the cost of a size.
        seconds = min(seconds, 1.5 * mean)
        # A size that is rarely seen has to learn faster from each sight.
        weight = trust * (1 - (1 - self._weight) ** min(step - at, 10))
        mean += weight * (seconds - mean)
        self._points[key] = known + weight * (size - known), mean, step, count + trust
        self._smooth()

    def forget(self, until: int) -> None:
        """Drop what was last measured at a step up to this one."""
        if any(at <= until for _, _, at, _ in self._points.values()):
            self._points = {key: each for key, each in self._points.items() if each[2] > until}
            self._smooth()

    def is_believed(self, size: int, step: int, patience: float) -> bool:
        """Whether a measurement near a size is recent enough; a first one is soon doubted."""
        key = _size_class(size)
        return any(
            step - at <= patience * min(count, _SETTLED) / _SETTLED
            for near, (_, _, at, count) in self._points.items()
            if abs(near - key) <= _NEAR
        )

    def seconds(self, size: float) -> float:
        """Return what a size takes; at least one has been measured."""
        curve = self._rising
        at = bisect_left(curve, (size, 0.0))
        if at == 0 or at == len(curve):
            known, seconds = curve[0 if at == 0 else -1]
            guessed = seconds * self.guess(size) / self.guess(known)
            if at == 0 or len(curve) == 1:
                return guessed
            # Past the largest, as it went on from the smallest, but no dearer than a guess: cost
            # rises in stairs, and what is thought too dear is never tried.
            slope = (seconds - curve[0][1]) / (known - curve[0][0])
            return min(guessed, seconds + slope * (size - known))
        (low, fast), (high, slow) = curve[at - 1 : at + 1]
        return fast + (slow - fast) * (size - low) / (high - low)

    def guess(self, size: float) -> float:
        """Return what a size takes where nothing is known, in steps of one."""
        return 1 + self._slope * (size - 1)

    def _smooth(self) -> None:
        """Put the measurements in order; none below one of a smaller size, which would be noise."""
        highest = 0.0
        self._rising = []
        for size, seconds, _, _ in sorted(self._points.values()):
            highest = max(highest, seconds)
            self._rising.append((size, highest))


class StepCost:
    """Seconds of an engine step by its requests and the tokens drafted for them.

    Args:
        slope: What a further token costs, as a share of a step of one, until it is measured.
        weight: Of a new measurement.
        lifetime: Number of steps after which a measurement is forgotten: what was slow once may
            not be any more.
    """

    def __init__(self, slope: float = 0.03, weight: float = 0.1, lifetime: int = 500) -> None:
        self._new_curve = partial(_Curve, slope, weight)
        self._weight = weight
        self._lifetime = lifetime
        self._num_steps = 0
        self._plain = self._new_curve()
        """By the number of requests."""
        self._verify: dict[int, _Curve] = {}
        """By the number of tokens; one for each class of numbers of requests, as each of these has
        a context to be read."""
        self._prompt_token_s: float | None = None
        self._propose_s = 0.0
        """For each request."""

    def observe(
        self, num_rows: int, num_drafted: int, seconds: float, num_prompt_tokens: int = 0
    ) -> None:
        """Take the time of a step.

        Args:
            num_prompt_tokens: Tokens of prompts that it computed besides.
        """
        self._num_steps += 1
        size = num_rows + num_drafted
        decode_s = seconds
        if num_prompt_tokens:
            decode_s -= self._prompts_s(num_rows, num_drafted, seconds, num_prompt_tokens)
        # What noise there is belongs to the whole step.
        trust = (decode_s / seconds) ** 2 if seconds else 1.0
        if trust >= _LEAST_TRUST:
            curve = self._plain
            if num_drafted:
                curve = self._verify.setdefault(num_rows.bit_length(), self._new_curve())
            curve.observe(size, decode_s, self._num_steps, trust)
        for curve in self._curves():
            curve.forget(self._num_steps - self._lifetime)

    def proposed(self, num_rows: int, seconds: float) -> None:
        """Take the time of proposing drafts for so many requests."""
        mean = self._propose_s or seconds / num_rows
        # A hiccup, as of a step; but there is more to do once proposers find something.
        self._propose_s = mean + self._weight * (min(seconds / num_rows, 3 * mean) - mean)

    def proposing_s(self, num_rows: int) -> float:
        """Return what proposing drafts for so many requests takes; any time before it was seen."""
        return self._propose_s * num_rows or math.inf

    def _prompts_s(
        self, num_rows: int, num_drafted: int, seconds: float, num_prompt_tokens: int
    ) -> float:
        """Return how long a step's prompts took, after learning what their tokens take.

        A prompt's token takes no longer than others: with as many of them in each step, a machine
        that has become slower would pass for one whose prompts have.
        """
        size = num_rows + num_drafted
        share = num_prompt_tokens / (size + num_prompt_tokens)
        if not self._plain:
            whole = self._plain.guess(size + num_prompt_tokens)
            return seconds * (1 - self._plain.guess(size) / whole)
        usual_s = self._drafted_s(num_rows)(num_drafted) if num_drafted else self.seconds(num_rows)
        token_s = (seconds - usual_s) / num_prompt_tokens
        token_s = min(token_s, seconds * share / num_prompt_tokens)
        if self._prompt_token_s is None:
            self._prompt_token_s = max(0.0, token_s)
        # The more of a step is prompts, the more it says about them.
        weight = self._weight * share
        self._prompt_token_s = max(
            0.0, self._prompt_token_s + weight * (token_s - self._prompt_token_s)
        )
        return min(self._prompt_token_s * num_prompt_tokens, seconds * share)

    def seconds(self, num_rows: int, num_drafted: int = 0) -> float:
        """Return what a step takes, with proposing; in an arbitrary unit before any was seen."""
        if num_drafted:
            return self.by_drafted(num_rows)(num_drafted)
        if self._plain:
            return self._plain.seconds(num_rows)
        verify = self._verify_curve(num_rows)
        return verify.seconds(num_rows) if verify else self._plain.guess(num_rows)

    def by_drafted(self, num_rows: int) -> Callable[[int], float]:
        """Return what a step takes by the number of tokens drafted for it, from 1 on."""
        propose_s = self._propose_s * num_rows
        step_s = self._drafted_s(num_rows)
        return lambda drafted: propose_s + step_s(drafted)

    def _drafted_s(self, num_rows: int) -> Callable[[int], float]:
        """The same without proposing."""
        plain_s = self.seconds(num_rows)
        verify = self._verify_curve(num_rows)
        if verify is not None:
            return lambda drafted: max(plain_s, verify.seconds(num_rows + drafted))
        unit_s = plain_s / self._plain.guess(num_rows)
        return lambda drafted: unit_s * self._plain.guess(num_rows + drafted)

    def knows_plain(self, num_rows: int, patience: float) -> bool:
        """Whether plain steps of about so many requests have been seen lately.

        Args:
            patience: For how many steps one is believed, once there have been some.
        """
        return self._plain.is_believed(num_rows, self._num_steps, patience)

    def _verify_curve(self, num_rows: int) -> _Curve | None:
        """Measurements with about as many requests, or the nearest there are."""
        found = [key for key, curve in self._verify.items() if curve]
        if not found:
            return None
        return self._verify[min(found, key=lambda key: abs(key - num_rows.bit_length()))]

    def _curves(self) -> Iterable[_Curve]:
        return (self._plain, *self._verify.values())
