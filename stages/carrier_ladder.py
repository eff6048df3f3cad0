"""Which way a client reads an answer, and what it does when that way fails.

Every rung carries the same log by the same cursor, so two may be open at once and whoever is
behind is shut: datagrams are raced against the event stream that answered the request, never
waited for. Where they are late for the race, the answer climbs to them as soon as they are there.
The machine knows neither addresses nor bytes.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "Advanced",
    "Available",
    "CarrierLadder",
    "Close",
    "Failed",
    "GiveUp",
    "LadderAction",
    "LadderEvent",
    "LadderLimits",
    "Open",
    "Opened",
    "Quiet",
    "Rung",
    "Watch",
]


_DATAGRAM_TRIES = 3
"""A session may end for many reasons; who fails again and again is left alone for this answer."""
_FORGIVEN_S = 5.0
"""For which datagrams have to deliver; what failed before counts no more then."""


class Rung(StrEnum):
    """Ways to read an answer, the best first."""

    DATAGRAMS = "datagrams"
    SSE = "sse"
    POLL = "poll"
    """One short request after another, for proxies that hold an event stream back."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The other end has answered on this rung."""

    rung: Rung


@dataclass(frozen=True, slots=True)
class Advanced:
    """This rung has delivered the log up to a cursor."""

    rung: Rung
    cursor: int


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing has come on this rung for too long, not even a heartbeat; it is still open."""

    rung: Rung


@dataclass(frozen=True, slots=True)
class Failed:
    """This rung is closed, and the answer is not whole."""

    rung: Rung


@dataclass(frozen=True, slots=True)
class Available:
    """This rung, which `Watch` has asked about, could be opened."""

    rung: Rung


LadderEvent = Opened | Advanced | Quiet | Failed | Available


@dataclass(frozen=True, slots=True)
class Open:
    """Read on this rung, from a cursor."""

    rung: Rung
    after: int


@dataclass(frozen=True, slots=True)
class Close:
    """Stop reading on this rung."""

    rung: Rung


@dataclass(frozen=True, slots=True)
class Watch:
    """Say `Available` once this rung could be opened, if ever."""

    rung: Rung


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody has answered for as long as was allowed."""


LadderAction = Open | Close | Watch | GiveUp


@dataclass(frozen=True, slots=True)
class LadderLimits:
    """How patient a client is, in seconds."""

    race_s: float = 0.3
    """Head start of datagrams over text that the event stream has already brought."""
    resume_s: float = 60.0
    """For how long a lost answer is asked for."""
    min_retry_s: float = 0.1
    max_retry_s: float = 2.0


class CarrierLadder:
    """One answer's rungs.

    It begins with the event stream open: the response to the request is one.

    Args:
        has_datagrams: Whether there is a session that datagrams could come by.
    """

    def __init__(self, has_datagrams: bool, limits: LadderLimits | None = None) -> None:
        self.cursor = 0
        """Up to which some rung has delivered."""
        self._limits = limits or LadderLimits()
        self._has_datagrams = has_datagrams
        self._open = {Rung.SSE}
        self._reliable = Rung.SSE
        """Which of the two reliable rungs comes next."""
        self._race_until: float | None = None
        self._has_session = self._is_climbing = False
        """Whether datagrams have answered; whether nobody hurries them, since text is coming."""
        self._is_quiet = False
        """Whether datagrams are open and have fallen silent."""
        self._num_datagram_failures = 0
        self._delivering_since: float | None = None
        """Since when datagrams have delivered, and neither failed nor fallen silent."""
        self._goal: int | None = None
        """Where datagrams have to get to: where the reader was when the first one came. Where it is
        now, they may never be: they are paced, and the event stream is a few tokens ahead."""
        self._retry_at: float | None = None
        self._num_failures = self._num_quiet = 0
        self._lost_since: float | None = None
        self._is_over = False

    @property
    def rungs(self) -> frozenset[Rung]:
        """What is open."""
        return frozenset(self._open)

    def start(self) -> list[LadderAction]:
        """Begin: the answer has a name, and its event stream is open."""
        return self._start_datagrams()

    def feed(self, event: LadderEvent, now: float) -> list[LadderAction]:
        """Take one event; those of rungs that are closed already say nothing."""
        if isinstance(event, Available):
            return self._climb()
        if event.rung not in self._open or self._is_over:
            return []
        if isinstance(event, Advanced):
            return self._advance(event, now)
        if isinstance(event, Opened):
            self._lost_since = None
            self._has_session |= event.rung is Rung.DATAGRAMS
            return []
        if isinstance(event, Quiet):
            return self._quiet(event.rung, now)
        self._open.discard(event.rung)
        return self._fail(event.rung, now)

    def deadline(self) -> float | None:
        """When the race or the patience ends, or a rung is tried again."""
        give_up_at = None if self._lost_since is None else self._lost_since + self._limits.resume_s
        moments = [at for at in (self._race_until, self._retry_at, give_up_at) if at is not None]
        return None if self._is_over else min(moments, default=None)

    def expire(self, now: float) -> list[LadderAction]:
        """Do what is due."""
        if self._is_over:
            return []
        if self._lost_since is not None and now >= self._lost_since + self._limits.resume_s:
            self._is_over = True
            return [*self._close(self._open), GiveUp()]
        actions: list[LadderAction] = []
        if self._race_until is not None and now >= self._race_until:
            self._race_until = None
            if self._has_session:
                self._is_climbing = True  # who has answered was close: there is text to read by
            else:
                actions += [*self._close({Rung.DATAGRAMS}), *self._fail(Rung.DATAGRAMS, now)]
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            actions += [self._opened(self._reliable), *self._start_datagrams()]
        return actions

    def _advance(self, event: Advanced, now: float) -> list[LadderAction]:
        self.cursor = max(self.cursor, event.cursor)
        self._num_failures, self._num_quiet, self._lost_since = 0, 0, None
        if event.rung is not Rung.DATAGRAMS:
            is_race = Rung.DATAGRAMS in self._open and not self._is_climbing
            if is_race and self._race_until is None:
                self._race_until = now + self._limits.race_s
            return []
        self._has_session, self._is_quiet = True, False
        if self._delivering_since is None:
            self._delivering_since = now
        elif now >= self._delivering_since + _FORGIVEN_S:
            self._num_datagram_failures = 0
        if self._goal is None:
            self._goal = self.cursor
        if event.cursor < self._goal:
            return []
        self._race_until = self._retry_at = None
        self._is_climbing = False
        return self._close(self._open - {Rung.DATAGRAMS})

    def _climb(self) -> list[LadderAction]:
        """Open datagrams beside the event stream: what they bring first is behind it anyway."""
        if self._is_over or not self._open:
            return []  # whoever opens the reliable rung again opens datagrams too
        actions = self._start_datagrams()
        self._is_climbing |= bool(actions)
        return actions

    def _quiet(self, rung: Rung, now: float) -> list[LadderAction]:
        if rung is Rung.DATAGRAMS:
            # Should they come to life again, they climb anew.
            self._goal = self._delivering_since = None
            self._is_climbing = self._is_quiet = True
            return [] if self._open & {Rung.SSE, Rung.POLL} else [self._opened(self._reliable)]
        # An event stream says something every few seconds. The first time, the connection is taken
        # for dead, as after a change of address; then somebody in between holds the events back.
        self._num_quiet += 1
        if self._num_quiet > 1:
            self._reliable = Rung.POLL
        return [*self._close({rung}), *self._fail(rung, now)]

    def _fail(self, rung: Rung, now: float) -> list[LadderAction]:
        self._race_until = None  # nobody is left to race
        if rung is Rung.DATAGRAMS:
            self._is_climbing = False
            self._num_datagram_failures += 1
            self._has_datagrams &= self._num_datagram_failures < _DATAGRAM_TRIES
        carrying = self._open - {Rung.DATAGRAMS} if self._is_quiet else self._open
        if carrying and rung is Rung.DATAGRAMS and self._has_datagrams:
            return [Watch(Rung.DATAGRAMS)]
        if carrying or self._retry_at is not None:
            return []
        if self._lost_since is None:
            self._lost_since = now
        limits, num_before = self._limits, self._num_failures
        self._num_failures += 1
        wait_s = limits.min_retry_s * 2.0 ** min(num_before - 1, 16) if num_before else 0.0
        self._retry_at = now + min(wait_s, limits.max_retry_s)
        return self.expire(now)

    def _start_datagrams(self) -> list[LadderAction]:
        if not self._has_datagrams or Rung.DATAGRAMS in self._open:
            return []
        return [self._opened(Rung.DATAGRAMS)]

    def _opened(self, rung: Rung) -> Open:
        self._open.add(rung)
        if rung is Rung.DATAGRAMS:
            self._goal = self._delivering_since = None
            self._has_session = self._is_quiet = False
        return Open(rung, self.cursor)

    def _close(self, rungs: set[Rung]) -> list[LadderAction]:
        closing = sorted(self._open & rungs)
        self._open -= rungs
        return [Close(rung) for rung in closing]
