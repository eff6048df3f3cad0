"""How fast one replica's answers grow, by how many it makes at once, learnt from what arrives."""

from dataclasses import dataclass

__all__ = ["AnswerSpeed"]

_MEMORY_S = 20.0
"""Time of answers that counts, of those of one size of batch; older ones fade."""
_LEAST_S = 1.0
"""Less is too little to judge by."""


@dataclass(slots=True)
class _Seen:
    tokens: float
    seconds: float
    at: float


class AnswerSpeed:
    """Tokens a second of one answer among so many.

    Args:
        lifetime_s: How long a measurement is believed after the last one like it: what was slow
            once may not be any more, and is tried again.
    """

    def __init__(self, lifetime_s: float = 60.0) -> None:
        self._lifetime_s = lifetime_s
        self._seen: dict[int, _Seen] = {}
        """By size class of the batch: 1, 2-3, 4-7, ..."""

    def observe(self, num_rows: int, num_tokens: int, seconds: float, now: float) -> None:
        """Take what answers gained in a step.

        Args:
            num_rows: Answers that are made at once.
            num_tokens: Gained by some of them.
            seconds: That these took for it, each since its last tokens, summed.
        """
        size = max(1, num_rows).bit_length()
        seen = self._seen.get(size)
        if seen is None or now - seen.at > self._lifetime_s:
            seen = self._seen[size] = _Seen(0.0, 0.0, now)
        keep = max(0.0, 1 - seconds / _MEMORY_S)
        seen.tokens = keep * seen.tokens + num_tokens
        seen.seconds = keep * seen.seconds + seconds
        seen.at = now

    def at(self, num_rows: int, now: float) -> float | None:
        """Return the speed that is known of so many at once, or of the next number to it.

        None where nothing is known.
        """
        size = max(1, num_rows).bit_length()
        known = {
            each: seen.tokens / seen.seconds
            for each, seen in self._seen.items()
            if now - seen.at <= self._lifetime_s and seen.seconds >= _LEAST_S
        }
        nearest = min(known, key=lambda each: (abs(each - size), each), default=None)
        return None if nearest is None else known[nearest]
