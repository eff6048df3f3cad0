"""When a text that is being written is rendered to token ids, and how much of that still holds.

A rendering costs a replica more than a slice of prefill saves, so there is one when a whole block
of the prefix cache may have come together that is missing. That takes a word that has ended: what
the one that is being written will be is not known. The shell renders; this knows lengths.
"""

from dataclasses import dataclass
from math import inf

from headstart.stages.stable_prefix import Boundary
from headstart.stages.warm_budget import RETRY_S
from headstart.stages.warm_events import Edited

__all__ = ["RenderLimits", "RenderPace"]

_RESTS = 4.0
"""Times as long as a rendering took, before the next: long texts must not keep a replica busy."""
_EARLY = 0.8
"""Share of the characters that a block is expected to take, after which it may be there."""
_DOUBT = 16
"""Tokens of one character each, which an expectation of few tokens is mixed with."""


@dataclass(frozen=True, slots=True)
class RenderLimits:
    """How eager to be."""

    debounce_s: float = 0.1
    """Quiet after typing before the prompt is rendered."""
    edit_debounce_s: float = 0.5
    """The same after a correction, which often is the first of several."""
    max_wait_s: float = 1.0
    """Longest that typing without a pause puts rendering off where a block may be there; where one
    is expected, it is `debounce_s`. And quiet after which text that is less than a block is
    expected to take is rendered all the same."""


class RenderPace:
    """The machine; `block` is how many tokens a block of the prefix cache has.

    Args:
        limits: How eager to be.
    """

    def __init__(self, limits: RenderLimits) -> None:
        self._limits = limits
        self._cut = 0
        """Code points of the text that no further text can change, as far as edits have told."""
        self._checkpoints: list[tuple[Boundary, int]] = []
        """Stable ids by the text they depend on, shortest first."""
        self._is_rendering = False
        """Whether one is under way, or waits for its turn."""
        self._began_at = self._rests_until = -inf
        """When the latest rendering began, and until when there is no other."""
        self._holds_to = inf
        """First code point that was edited since the text was taken for it."""
        self._is_corrected = False
        """Whether more than an append was done to the text since."""
        self._is_too_long = False
        """Whether the text was refused for its length, and has only grown."""
        self._due_at: float | None = 0.0
        self._pending_since: float | None = None

    def edited(self, event: Edited, block: int, now: float) -> int:
        """Take an edit; return how many of the stable ids it leaves as they are."""
        self._cut = max(min(self._cut, event.start), event.cut)
        while self._checkpoints and self._checkpoints[-1][0].hold > event.start:
            self._checkpoints.pop()
        self._holds_to = min(self._holds_to, event.start)
        if not event.is_append:
            self._is_corrected, self._is_too_long = True, False
        self._due_at = self._when(event, block, now)
        return self._checkpoints[-1][1] if self._checkpoints else 0

    def restarted(self, now: float) -> None:
        """Have everything rendered again, at once."""
        self._checkpoints.clear()
        self._cut = 0
        self._holds_to = -1.0
        self._is_corrected, self._is_too_long = True, False
        self._due_at = now

    def began(self, now: float) -> None:
        """Have the text taken as it is now: what was edited before is in the rendering."""
        self._began_at = now
        self._holds_to = inf
        self._is_corrected = False
        self._due_at = self._pending_since = None

    def rendered(self, at: Boundary, length: int, kept: int, now: float) -> bool:
        """Take a rendering; return whether it is of the text as it is.

        Args:
            at: Where the text was cut for it.
            length: Its stable ids.
            kept: How many of them it has in common with those before.
        """
        self._rest(now)
        if at.hold > self._holds_to:
            return False  # edited meanwhile; whoever did that has asked for another
        self._checkpoints = [
            (earlier, num)
            for earlier, num in self._checkpoints
            if num <= kept and earlier.cut < at.cut
        ]
        self._checkpoints.append((at, length))
        return True

    def failed(self, now: float, *, is_final: bool, is_too_long: bool) -> None:
        """Take that the text cannot be rendered.

        Args:
            is_final: Whether it never will be as it is.
            is_too_long: Whether nothing can be that begins with it.
        """
        self._rest(now)
        self._rests_until = max(self._rests_until, now + RETRY_S)
        self._is_too_long = is_too_long and not self._is_corrected
        if not is_final and self._due_at is None:
            self._due_at = now

    def stop(self) -> bool:
        """Put the rendering under way off; return whether there is one."""
        was_rendering, self._is_rendering = self._is_rendering, False
        if was_rendering:
            self._due_at = 0.0
        return was_rendering

    def deadline(self) -> float | None:
        """When `expire` has something to do; None while only an event can change that."""
        if self._due_at is None or self._is_rendering:
            return None
        return max(self._due_at, self._rests_until)

    def expire(self, block: int, now: float) -> bool:
        """Return whether the text is to be rendered now that it is `now`."""
        due = self.deadline()
        if due is None or now < due:
            return False
        self._due_at = self._pending_since = None
        if not self._is_possible(block):
            return False  # what was rendered meanwhile does
        self._is_rendering = True
        return True

    def _rest(self, now: float) -> None:
        """End the rendering under way."""
        self._is_rendering = False
        self._rests_until = now + _RESTS * (now - self._began_at)

    def _when(self, event: Edited, block: int, now: float) -> float | None:
        """Return when a block that is missing may have come together; None where none can."""
        limits = self._limits
        if not self._has_come_together(block, _EARLY * self._chars_per_token):
            # Whoever stops typing may be about to send off what has few characters a token.
            return now + limits.max_wait_s if self._is_possible(block) else None
        if self._pending_since is None:
            self._pending_since = now
        if not event.is_append:
            return now + limits.edit_debounce_s
        # Whoever puts in a whole block at once may send it off at once; who types is in no hurry.
        is_expected = self._has_come_together(block, self._chars_per_token)
        longest_s = limits.debounce_s if is_expected else limits.max_wait_s
        return min(now + limits.debounce_s, self._pending_since + longest_s)

    def _is_possible(self, block: int) -> bool:
        """Whether another whole block may be there: hardly a token has no character."""
        return self._has_come_together(block, min(1.0, self._chars_per_token))

    def _has_come_together(self, block: int, chars_per_token: float) -> bool:
        """Whether so many characters a token would make another whole block that can be had."""
        if self._is_too_long:
            return False
        if not self._checkpoints:
            return True
        at, length = self._checkpoints[-1]
        missing = block - length % block
        return self._cut - at.cut >= missing * chars_per_token

    @property
    def _chars_per_token(self) -> float:
        """Of the text so far, on the low side while it is short."""
        if not self._checkpoints:
            return 1.0
        (first, head), (at, length) = self._checkpoints[0], self._checkpoints[-1]
        return (at.cut - first.cut + _DOUBT) / (length - head + _DOUBT)
