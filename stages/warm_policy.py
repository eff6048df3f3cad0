"""Decides what of a prompt is computed while it is being written.

One machine a session. The shell renders and prefills when it is told to, and tells what came of
it. A plan is the stable head of the rendered prompt; of its ids the machine remembers those that
are in the replica's prefix cache, and has the next slice computed until no whole block is missing.
"""

from dataclasses import dataclass
from math import inf

from headstart.stages.render_pace import RenderLimits, RenderPace
from headstart.stages.stable_prefix import common_length
from headstart.stages.warm_budget import RETRY_S, PrefillSpeed
from headstart.stages.warm_events import (
    Abort,
    Answered,
    Closed,
    Committed,
    Drop,
    Edited,
    Moved,
    Planned,
    Render,
    RenderFailed,
    Rendering,
    Restarted,
    SliceFailed,
    SliceStarved,
    Warm,
    WarmAction,
    Warmed,
    WarmEvent,
    Why,
)
from headstart.stages.warm_ledger import WarmLedger

__all__ = ["WarmLimits", "WarmPolicy"]


@dataclass(frozen=True, slots=True)
class WarmLimits(RenderLimits):
    """How eager to be."""

    trust_s: float = 120.0
    """How long what was computed is taken to be in the cache without having been seen there."""


class WarmPolicy:
    """The machine.

    Args:
        limits: How eager to be.
        speed: Of the replica.
        ledger: Of the session.
    """

    def __init__(self, limits: WarmLimits, speed: PrefillSpeed, ledger: WarmLedger) -> None:
        self._limits = limits
        self._speed = speed
        self._ledger = ledger
        self._rendering = RenderPace(limits)
        self._plan: list[int] = []
        """Ids of the prompt that further text cannot change."""
        self._warm: list[int] = []
        """What is known to be in the cache."""
        self._seen_at = -inf
        """When it was."""
        self._said: tuple[int, tuple[int, ...]] | None = None
        """Tokens of the latest prompt, and its answer, until they are found in a plan."""
        self._in_flight: list[int] | None = None
        self._reserved = 0
        """Tokens that were charged for it."""
        self._is_starved = False
        self._is_answering = False
        self._blocked_until = 0.0

    @property
    def planned_tokens(self) -> int:
        """Ids of the prompt that further text cannot change."""
        return len(self._plan)

    @property
    def warm_tokens(self) -> int:
        """How many of those are in the cache, as far as is known."""
        return self._missing_from

    @property
    def warm_ids(self) -> list[int]:
        """Ids that are in the cache, of this prompt or the one it was before."""
        return self._warm

    def feed(self, event: WarmEvent, now: float) -> list[WarmAction]:
        """Take what has happened; return what to do about it."""
        actions: list[WarmAction] = []
        match event:
            case Edited():
                actions = self._edited(event, now)
            case Restarted():
                self._said = None
                self._rendering.restarted(now)
                actions = self._keep(0, Why.EDITED)
            case Rendering():
                self._rendering.began(now)
            case Planned():
                self._planned(event, now)
            case Warmed():
                self._warmed(event, now)
            case RenderFailed():
                self._rendering.failed(now, is_final=event.is_final, is_too_long=event.is_too_long)
            case SliceFailed():
                self._failed(now)
            case Moved():
                actions = self._abort(Why.MOVED)
                self._speed = event.speed
                self._warm, self._said = [], None
                self._blocked_until = now
            case Committed():
                actions = self._rest(Why.COMMITTED)
            case Closed():
                actions = self._rest(Why.CLOSED)
            case Answered():
                self._is_answering = False
                if event.prompt_tokens:
                    self._seen_at = now
                if event.tokens:
                    self._said = event.prompt_tokens, event.tokens
        return actions + self.expire(now)

    def deadline(self) -> float | None:
        """When `expire` has something to do; None while only an event can change that."""
        if self._is_answering:
            return None
        times = [self._rendering.deadline()]
        if self._in_flight is None and self._lacks:
            times.append(self._blocked_until)
        return min((at for at in times if at is not None), default=None)

    def expire(self, now: float) -> list[WarmAction]:
        """Return what to do now that it is `now`."""
        if self._is_answering:
            return []
        actions: list[WarmAction] = []
        if self._rendering.expire(self._speed.block_size, now):
            actions.append(Render())
        if self._in_flight is None and now >= self._blocked_until and self._lacks:
            if now - self._seen_at > self._limits.trust_s:
                self._warm = []
            actions += self._next_slice(now)
        return actions

    def _edited(self, event: Edited, now: float) -> list[WarmAction]:
        kept = self._rendering.edited(event, self._speed.block_size, now)
        actions = self._keep(kept, Why.EDITED) if kept < len(self._plan) else []
        if not event.num_chars:
            self._warm = self._warm[:kept]  # the ids are the text, and that shall be forgotten
        return actions

    def _planned(self, event: Planned, now: float) -> None:
        kept = common_length(event.tokens, self._plan)
        if self._rendering.rendered(event.at, len(event.tokens), kept, now):
            self._plan = event.tokens
            self._find_answer()

    def _find_answer(self) -> None:
        """Take a prompt that goes on with the latest answer as computed up to that one's end.

        An answer that stands in the plan where it was made stands behind the prompt that it was
        made for. If it does not, as with templates that drop part of it, some of that is computed
        in vain.
        """
        if self._said is None:
            return
        (start, said), self._said = self._said, None
        length = common_length(self._plan[start:], list(said))
        # The last id that an engine samples is not computed before another follows.
        end = start + min(length, len(said) - 1)
        if length and end > self._missing_from:
            self._warm = self._plan[:end]

    def _warmed(self, event: Warmed, now: float) -> None:
        done, self._in_flight = self._in_flight, None
        if done is None:
            return
        computed = max(0, self._speed.whole(len(done)) - event.num_cached)
        self._ledger.computed(self._reserved, computed, event.num_cached, event.seconds, now)
        self._speed.observe(computed, event.seconds)
        self._warm = done
        self._seen_at = now

    def _failed(self, now: float) -> None:
        if self._in_flight is not None:
            self._ledger.failed(self._reserved, now)
            self._in_flight = None
            self._blocked_until = now + RETRY_S

    def _keep(self, num_tokens: int, why: Why) -> list[WarmAction]:
        """Shorten the plan, and stop what is computed beyond it."""
        self._plan = self._plan[:num_tokens]
        slice_tokens = self._in_flight
        is_useless = slice_tokens is not None and self._speed.whole(len(slice_tokens)) > num_tokens
        return self._abort(why) if is_useless else []

    def _rest(self, why: Why) -> list[WarmAction]:
        """Stop everything, and begin nothing before there is an answer."""
        self._is_answering = True
        stopped = self._abort(why)
        return [*stopped, Drop()] if self._rendering.stop() else stopped

    def _abort(self, why: Why) -> list[WarmAction]:
        if self._in_flight is None:
            return []
        known = self._speed.whole(common_length(self._in_flight, self._warm))
        self._ledger.aborted(self._speed.whole(len(self._in_flight)) - known, known)
        self._in_flight = None
        return [Abort(why)]

    @property
    def _lacks(self) -> bool:
        """Whether a whole block of the plan is missing."""
        return self._missing_from < self._end

    @property
    def _end(self) -> int:
        """Where the last whole block of the plan ends."""
        return self._speed.whole(len(self._plan))

    @property
    def _missing_from(self) -> int:
        return self._speed.whole(common_length(self._warm, self._plan))

    def _next_slice(self, now: float) -> list[WarmAction]:
        if wait_s := self._ledger.wait_s(self._speed, now):
            self._blocked_until = now + wait_s
            was_starved, self._is_starved = self._is_starved, True
            return [] if was_starved else [SliceStarved()]
        self._is_starved = False
        start = self._missing_from
        self._reserved = self._ledger.reserve(self._end - start, self._speed, now)
        end = start + self._reserved
        # An engine always computes the last id: without one more, whichever, it would compute a
        # block again that it has.
        self._in_flight = [*self._plan[:end], *(self._plan[end:] or self._plan)[:1]]
        return [Warm(self._in_flight)]
