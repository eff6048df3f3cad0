"""How much redundancy a token stream gets: which repeats, and how far back each datagram reaches.

The more is lost, the more is sent. A path that loses next to nothing gets no repeat but the probe,
and datagrams that reach back a moment instead of a round trip; one that loses much gets them at the
fastest pace.

Where no other reason is given, a number was tuned on the simulator's first seeds. `headstart bench
transport` scores it on others; its table of mechanisms says what each is good for.
"""

from headstart.stages.path_estimate import LossMeter, RoundTrip

__all__ = ["ACK_DELAY_S", "RepeatPolicy"]

_CLEAN_LOSS = 0.005
"""One in two hundred: below, the next datagram or a probe repairs what is lost."""
_CLEAN_WINDOW_S = 10.0
"""As long as the window of the shortest round trip: what a path was like before says little."""
_CLEAN_MIN_DATAGRAMS = 100
"""On a path that loses 5 %, so many arrive in a row once in 170 times: fewer would be luck."""
_HEAVY_LOSS = 0.08
"""Tuned."""
_SEVERE_LOSS = 0.15
"""Tuned; from here on two datagrams in a row are lost more than once in fifty times."""
_RECENT_WINDOW_S = 2.0
"""A hundred datagrams at the fastest pace: bursts count, and are forgotten soon."""
_RECENT_MIN_DATAGRAMS = 10
"""Fewer cannot tell 10 % from 20 %; until then the path is taken for a bad one."""
_SHORT_SPAN_S = 0.1
"""A single loss is made good within it, and before the reader misses anything."""
_LOSSY_PERIOD = 2
"""Tuned: every other datagram reaches back all the way."""
_CLEAN_PERIOD = 4
"""At the slowest pace, 50 ms, a long one each 200 ms."""
_CHEAP_BYTES = 150
"""Less is not worth cutting: a packet's headers alone are 60."""
_EAGER_S = 0.1
"""For as long as a reader does not yet miss the text."""
_LONG_SILENCE_S = 0.2
"""Longer than most bursts of the simulator's: a blackout, whose end probes find."""
_MIN_REPEAT_S = 0.03
"""A newer datagram usually leaves before the first repeat; the others are for slow speakers and for
an answer's last words, where nothing newer repairs a loss."""
_LOSSY_REPEATS_S = (0.24, 0.09)
_SEVERE_REPEATS_S = (0.24, 0.09, 0.06)
"""After the first, latest first. A reader misses text that is late by a tenth of a second."""
_EVENT_BYTES = 280
"""On the wire, of one server-sent event with one token, less something for an answer's end."""
_MAX_EVENTS = 3
"""Most that one step's credit is: beyond, many tokens are a long text, and one datagram as well."""
_TOKEN_BYTES = 30
"""Of the log, for an ordinary token, its text and its id: up to 25."""
_REPEAT_BYTES = 100
"""Least that a repeat costs: below, there is no credit for one."""
_PACKET_BYTES = 60
"""What IP, UDP and QUIC add to a datagram."""
ACK_DELAY_S = 0.025
"""A reader may take so long to acknowledge."""
_MIN_PROBE_S = 0.04
"""Two of the fastest frames: sooner, the next text would come anyway."""
_MAX_PROBE_S = 0.4
"""A blackout's end is found so soon after it, for at most 2.5 small packets a second."""
_STEADY_PROBES = 4
"""Most losses are over by then: the first probe that gets through ends the stall."""


class RepeatPolicy:
    """Adaptive redundancy of one stream."""

    def __init__(self) -> None:
        self._long = LossMeter(_CLEAN_WINDOW_S, _CLEAN_MIN_DATAGRAMS)
        self._recent = LossMeter(_RECENT_WINDOW_S, _RECENT_MIN_DATAGRAMS)
        self._plan: list[float] = []
        """When to repeat, latest first."""
        self._turn = 0
        self._credit_bytes = 0
        self._is_last = False
        self.is_clean = False
        """Whether the path has lost next to nothing of late."""
        self._is_known = False
        self._believed_loss = 1.0
        """A path that is not known yet is taken for a bad one: an answer's start matters most."""

    def frame_s(self, round_trip: RoundTrip, min_s: float, max_s: float) -> float:
        """Least time between two datagrams with new text, in seconds.

        An eighth of the round trip, between the two limits; the lower limit while much is lost.
        """
        is_heavy = self._believed_loss > _HEAVY_LOSS
        return min_s if is_heavy else min(max(round_trip.smoothed_s / 8, min_s), max_s)

    def paced_s(self, frame_s: float, overdue_s: float) -> float:
        """Time between datagrams with new text while acknowledgements are overdue, in seconds.

        At first twice as fast, to find a burst's end; at length half as fast, or what is sent into
        a blackout would fill the path's window before it ends.
        """
        if overdue_s > _LONG_SILENCE_S:
            return 2 * frame_s
        return frame_s / 2 if 0 < overdue_s < _EAGER_S else frame_s

    def span_s(
        self, window_bytes: int, rtt_s: float, is_silent: bool, is_repeat: bool
    ) -> float | None:
        """How far back the next datagram reaches, in seconds; None for all that is un-acked.

        Every other one reaches all the way, every fourth where losses are rare, and the rest a
        moment: most losses are made good by either, and a burst by the first long one after it.

        Args:
            window_bytes: Size of all that is un-acked; less than a packet's headers is not worth
                saving.
            rtt_s: Smoothed round trip; where it is short, only a burst makes the window large.
            is_silent: Whether acknowledgements are overdue: a burst may be on.
            is_repeat: Whether nothing is new: the latest text alone, which the credit buys most of.
        """
        is_short_path = rtt_s < 2 * _SHORT_SPAN_S and not self.is_clean
        if not self._is_known or is_silent or is_short_path or window_bytes < _CHEAP_BYTES:
            return None
        if is_repeat:
            return _SHORT_SPAN_S
        self._turn += 1
        is_long = self._turn % (_CLEAN_PERIOD if self.is_clean else _LOSSY_PERIOD) == 0
        return None if is_long else _SHORT_SPAN_S

    def new_sent(
        self, now: float, frame_s: float, size_bytes: int, fresh_bytes: int, is_last: bool
    ) -> None:
        """Plan the repeats of a datagram with new text, if no newer comes; older plans are void.

        There are as many repeats as leave the text no dearer than the event that it replaces, or
        a few where it is many tokens; what one text saves, the next may spend.

        Args:
            size_bytes: Of the datagram.
            fresh_bytes: Log bytes that no earlier one carried.
            is_last: Nothing newer will come: all repeats, whatever they cost.
        """
        self._plan = []
        self._is_last = is_last
        num_events = min(1 + fresh_bytes // _TOKEN_BYTES, _MAX_EVENTS)
        self._credit_bytes = min(self._credit_bytes, _EVENT_BYTES) + num_events * _EVENT_BYTES
        self._credit_bytes -= size_bytes + _PACKET_BYTES
        if self.is_clean:
            return
        first_s = max(1.5 * frame_s, _MIN_REPEAT_S)
        is_severe = self._believed_loss > _SEVERE_LOSS
        later_s = _SEVERE_REPEATS_S if is_severe else _LOSSY_REPEATS_S
        repeats_s = (*(after_s for after_s in later_s if after_s > first_s), first_s)
        self._plan = [now + after_s for after_s in repeats_s]

    def repeated(self, now: float, size_bytes: int) -> None:
        """Note that a datagram without new text was sent."""
        self._credit_bytes -= size_bytes + _PACKET_BYTES
        while self._plan and self._plan[-1] <= now:
            self._plan.pop()

    def nothing_unacked(self) -> None:
        """Void the plan: the reader has everything."""
        self._plan = []

    def acked(self, newest: int, num_received: int, now: float) -> None:
        """Take the reader's totals: highest number and how many datagrams it has received."""
        self._long.add(newest, num_received, now)
        self._recent.add(newest, num_received, now)
        lasting, recent = self._long.loss, self._recent.loss
        self.is_clean = lasting is not None and lasting < _CLEAN_LOSS
        known = lasting if recent is None else recent
        self._is_known = known is not None
        self._believed_loss = 1.0 if known is None else known

    def repeat_at(self) -> float | None:
        """When the planned repeat is due."""
        is_paid = self._is_last or self._credit_bytes >= _REPEAT_BYTES
        return self._plan[-1] if self._plan and is_paid else None

    def probe_timeout_s(self, round_trip: RoundTrip) -> float:
        """How long after the last datagram a lost tail is probed for, in seconds."""
        return max(_MIN_PROBE_S, round_trip.timeout_s(ACK_DELAY_S))

    def backed_off_s(self, first_s: float, num_probes: int) -> float:
        """The same after probes without an answer: soon doubled each time, up to 0.4 s."""
        num_doublings = min(max(0, num_probes - _STEADY_PROBES), 8)
        return max(first_s, min(_MAX_PROBE_S, first_s * 2.0**num_doublings))
