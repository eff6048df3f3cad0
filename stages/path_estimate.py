"""What a sender believes about its path: round trip, its variation, and loss.

Fed from acknowledgements, whose claims are clamped by whoever feeds it.
"""

from collections import deque

__all__ = ["LossMeter", "RoundTrip"]

_MIN_RTT_WINDOW_S = 10.0
_JITTER_SAMPLES = 16
"""RFC 3550 section 6.4.1."""


class RoundTrip:
    """Smoothed round trip by RFC 6298, the shortest of the last ten to twenty seconds, and by how
    much one differs from the next: much where a path delays each packet as it likes, little where a
    queue delays them all.

    Args:
        initial_s: Assumed before the first sample, in seconds; the handshake's round trip.
    """

    def __init__(self, initial_s: float) -> None:
        self.smoothed_s = initial_s
        self.variation_s = initial_s / 2
        self.jitter_s = 0.0
        """Mean difference of two samples in a row, as RFC 3550 smooths it."""
        self.is_known = False
        self._latest_s = initial_s
        self._num_samples = 0
        self._window_min = self._older_min = float("inf")
        self._window_end = float("-inf")

    def add(self, sample_s: float, now: float) -> None:
        """Take one sample in seconds."""
        if not self.is_known:
            self.is_known = True
            self.smoothed_s, self.variation_s = sample_s, sample_s / 2
        else:
            self.variation_s += (abs(sample_s - self.smoothed_s) - self.variation_s) / 4
            self.smoothed_s += (sample_s - self.smoothed_s) / 8
            self._num_samples = min(self._num_samples + 1, _JITTER_SAMPLES)
            difference_s = abs(sample_s - self._latest_s)
            self.jitter_s += (difference_s - self.jitter_s) / self._num_samples
        self._latest_s = sample_s
        if now >= self._window_end:
            self._window_end = now + _MIN_RTT_WINDOW_S
            self._older_min, self._window_min = self._window_min, sample_s
        self._window_min = min(self._window_min, sample_s)

    @property
    def min_s(self) -> float:
        """Shortest recent sample, in seconds; the assumption before the first."""
        return min(self._window_min, self._older_min) if self.is_known else self.smoothed_s

    def timeout_s(self, ack_delay_s: float) -> float:
        """How long to wait for an acknowledgement before one should have come, in seconds."""
        return self.smoothed_s + 4 * self.variation_s + ack_delay_s


class LossMeter:
    """Share of datagrams lost, over a sliding window, from running totals.

    Args:
        window_s: Length of the window, in seconds.
        min_datagrams: Below so many in the window nothing is known.
    """

    __slots__ = ("_min_datagrams", "_totals", "_window_s")

    def __init__(self, window_s: float, min_datagrams: int) -> None:
        self._window_s = window_s
        self._min_datagrams = min_datagrams
        self._totals: deque[tuple[float, int, int]] = deque([(float("-inf"), 0, 0)])

    def add(self, newest: int, num_received: int, now: float) -> None:
        """Take the highest number and the count that the reader has received so far."""
        self._totals.append((now, newest, num_received))
        while len(self._totals) > 2 and self._totals[1][0] <= now - self._window_s:
            self._totals.popleft()

    @property
    def loss(self) -> float | None:
        """Share lost, from 0 to 1; None while too few datagrams are known of."""
        _, first_newest, first_received = self._totals[0]
        _, newest, received = self._totals[-1]
        num_sent = newest - first_newest
        if num_sent < self._min_datagrams:
            return None
        return min(1.0, max(0.0, 1 - (received - first_received) / num_sent))
