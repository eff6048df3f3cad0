"""Where the time of one request went.

A request passes `Mark`s in a fixed order. The time between two neighbouring marks is a `Stage`,
so stages are disjoint and add up by construction, and none is computed as what is left over.
Marks set in another process are moved onto the local clock by a measured `ClockOffset` first.
"""

from collections import deque
from enum import IntEnum, StrEnum
from typing import NamedTuple

__all__ = ["ClockOffset", "Mark", "Stage", "StageClock", "stage_after"]


class Mark(IntEnum):
    """Moments of one request, in the order they happen."""

    ARRIVED = 0
    """Gateway: request line and headers are here."""
    PARSED = 1
    """Gateway: body read and understood."""
    ADMITTED = 2
    """Gateway: key and limits checked."""
    ROUTED = 3
    """Gateway: replica chosen, request handed to the data plane."""
    RECEIVED = 4
    """Replica: request taken from the data plane."""
    TOKENISED = 5
    """Replica: prompt rendered to token ids, engine asked."""
    SCHEDULED = 6
    """Engine: first step that includes the request begins."""
    FIRST_TOKEN = 7
    """Engine: first token sampled."""
    LAST_TOKEN = 8
    """Engine: last token sampled."""
    DETOKENISED = 9
    """Replica: last token's text is here."""
    FRAMED = 10
    """Replica: last frame appended to the token log."""
    SENT = 11
    """Gateway: last frame written to the reader's connection."""
    DELIVERED = 12
    """Reader: last frame received (readers that acknowledge)."""
    RENDERED = 13
    """Reader: last frame shown (readers that acknowledge)."""


class Stage(StrEnum):
    """What lies between two neighbouring marks; values are metric label values."""

    PARSE = "parse"
    AUTH = "auth"
    ROUTE = "route"
    HOP = "hop"
    TOKENISE = "tokenise"
    QUEUE = "queue"
    PREFILL = "prefill"
    DECODE = "decode"
    DETOKENISE = "detokenise"
    FRAME = "frame"
    SEND = "send"
    NETWORK = "network"
    RENDER = "render"


_STAGES = tuple(Stage)


def stage_after(mark: Mark) -> Stage | None:
    """Return the stage that begins with `mark`; None after the last."""
    return _STAGES[mark] if mark < len(_STAGES) else None


class StageClock:
    """The marks of one request, in seconds on one process's monotonic clock."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: list[float | None] = [None] * len(Mark)

    def set(self, mark: Mark, at: float) -> None:
        """Note that `mark` was passed at `at` seconds. A later call replaces an earlier one."""
        self._marks[mark] = at

    def get(self, mark: Mark) -> float | None:
        """Return when `mark` was passed, or None."""
        return self._marks[mark]

    def take(self, other: "StageClock") -> None:
        """Take over the marks that another clock of the same process has and this one lacks."""
        self._marks = [
            own if own is not None else theirs
            for own, theirs in zip(self._marks, map(other.get, Mark), strict=True)
        ]

    @property
    def current(self) -> Stage | None:
        """The stage the request is in: the one after the latest mark it has passed."""
        for mark in reversed(Mark):
            if self._marks[mark] is not None:
                return stage_after(mark)
        return None

    def between(self, start: Mark, end: Mark) -> float | None:
        """Seconds from one mark to another, not below zero; None if either is missing."""
        first, last = self._marks[start], self._marks[end]
        if first is None or last is None:
            return None
        return max(0.0, last - first)

    def durations(self) -> dict[Stage, float]:
        """Seconds spent in each stage whose two marks are known.

        A negative span, which only the uncertainty of a clock offset can cause, counts as zero.
        """
        spans: dict[Stage, float] = {}
        for index, stage in enumerate(_STAGES):
            span = self.between(Mark(index), Mark(index + 1))
            if span is not None:
                spans[stage] = span
        return spans


class _Sample(NamedTuple):
    number: int
    round_trip_s: float
    offset_s: float


class ClockOffset:
    """Offset of a remote monotonic clock, by the four stamps of a ping.

    The sample with the shortest round trip among the last `window` is the most trustworthy
    (NTP's clock filter, RFC 5905 section 10); half that round trip bounds its error, as long as
    the two clocks do not drift apart noticeably within the window.
    """

    __slots__ = ("_num_samples", "_shortest", "_window")

    def __init__(self, window: int = 64) -> None:
        self._window = window
        self._num_samples = 0
        self._shortest: deque[_Sample] = deque()
        """Of the window, those that no later one is shorter than: the shortest comes first."""

    def add(self, sent: float, remote_received: float, remote_sent: float, received: float) -> None:
        """Take one ping: local send, remote receive, remote send, local receive, in seconds."""
        round_trip_s = max(0.0, (received - sent) - (remote_sent - remote_received))
        offset_s = ((remote_received - sent) + (remote_sent - received)) / 2
        shortest = self._shortest
        while shortest and shortest[-1].round_trip_s > round_trip_s:
            shortest.pop()
        self._num_samples += 1
        shortest.append(_Sample(self._num_samples, round_trip_s, offset_s))
        if shortest[0].number <= self._num_samples - self._window:
            shortest.popleft()

    @property
    def is_known(self) -> bool:
        """Whether at least one ping has come back."""
        return bool(self._shortest)

    @property
    def offset_s(self) -> float:
        """Remote clock minus local clock, in seconds; 0 before the first ping."""
        return self._shortest[0].offset_s if self._shortest else 0.0

    @property
    def uncertainty_s(self) -> float:
        """Largest error `offset_s` can have, in seconds; infinite before the first ping."""
        return self._shortest[0].round_trip_s / 2 if self._shortest else float("inf")

    def to_local(self, remote: float) -> float:
        """Move a remote stamp onto the local clock."""
        return remote - self.offset_s
