"""The text of a live prompt: what the gateway has, and the edits that it has not confirmed.

Pure: requests are somebody else's. Each edit says which version it is about, so the gateway makes
it once at most, however often it is sent; what waits behind one that is refused goes with it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from itertools import islice
from typing import Any

from headstart.client.live_state import LiveState
from headstart.stages.errors import HeadstartError, LiveConflict, LiveRefused, PayloadTooLarge

__all__ = ["Known", "LiveText", "Waiting", "behind"]

_MAX_EDITS = 1024
"""Of one request."""
_MAX_CHARS = 1 << 18
"""Of one request, unless its first edit has more."""

Settle = Callable[[HeadstartError | None], None]
"""Told how an edit ended: None is that it was made."""


class Known(Enum):
    """What is known of the edits that were sent last."""

    ALL = "all"
    """How each ended."""
    UNDER_WAY = "under way"
    """Somebody waits for their response."""
    LEAVING = "leaving"
    """As `UNDER_WAY`, and a commit is sent with them: nothing else may be meanwhile."""
    NOTHING = "nothing"
    """The gateway has to be asked what it has before anything else is sent."""


@dataclass(eq=False, slots=True)
class Waiting:
    """An edit that is not confirmed, or a commit that waits for those before it."""

    settle: Settle
    event: dict[str, Any] | None
    """None is a commit."""

    def applied(self, text: str) -> str:
        """Return a text as it is afterwards; only the gateway tells whether that may be."""
        event = self.event
        if event is None or event["type"] == "input_text.clear":
            return ""
        start, end = event.get("start", len(text)), event.get("end", len(text))
        return text[:start] + str(event["text"]) + text[end:]


class LiveText:
    """The text.

    Args:
        version: Of the empty text that the gateway has.
    """

    def __init__(self, version: int) -> None:
        self.text = ""
        """What is typed; after a refusal, what the gateway has."""
        self.version = version
        """Of what the gateway has."""
        self.known = Known.ALL
        self._confirmed = ""
        self._sent_off: str | None = None
        """What an answer is being made to, as far as is known."""
        self._waiting: deque[Waiting] = deque()
        self._num_sent = 0
        self._max_edits = _MAX_EDITS
        self._refusal: HeadstartError | None = None
        self._has_been_leaving = False
        """Whether what was refused is a commit with the edits that it took along."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_commits_turn(self) -> bool:
        """Whether all edits before the first commit are confirmed."""
        return bool(self._waiting) and self._waiting[0].event is None and self.known is Known.ALL

    def put(self, one: Waiting) -> None:
        """Let an edit or a commit wait for its turn."""
        self._waiting.append(one)
        self.text = one.applied(self.text)

    def grant(self) -> None:
        """Tell the commit that it is its turn."""
        self._waiting[0].settle(None)

    def taken(self) -> list[dict[str, Any]]:
        """Take the edits that are to be sent now."""
        edits = self._first_edits()
        self._num_sent, self.known = len(edits), Known.UNDER_WAY
        return edits

    def taken_along(self, commit: Waiting) -> dict[str, Any] | None:
        """Take the edits before a commit, to be sent with it, those under way once more.

        Returns: The request's body; None where the commit has to wait for its turn.
        """
        if self.known in (Known.NOTHING, Known.LEAVING) or self._max_edits < _MAX_EDITS:
            return None
        edits = self._first_edits()
        if not edits or self._waiting[len(edits)] is not commit:
            return None
        self._num_sent, self.known = len(edits), Known.LEAVING
        digest = sha256(self._text_with(len(edits)).encode()).hexdigest()
        return {"version": self.version + len(edits), "edits": edits, "sha256": digest}

    def _first_edits(self) -> list[dict[str, Any]]:
        """Those before the first commit, as many as one request may have."""
        edits: list[dict[str, Any]] = []
        num_chars = 0
        for one in self._waiting:
            if one.event is None or len(edits) == self._max_edits:
                break
            num_chars += len(one.event.get("text", ""))
            if edits and num_chars > _MAX_CHARS:
                break
            edits.append(one.event | {"version": self.version + len(edits)})
        return edits

    def made(self) -> None:
        """All that were sent are made."""
        self._confirm(self._num_sent)
        self.known = Known.ALL
        self._max_edits = _MAX_EDITS

    def unheard(self) -> None:
        """What became of them is not known."""
        self.known = Known.NOTHING

    def refused(self, error: HeadstartError) -> None:
        """One of them is refused, or the commit that took them along: the gateway's text tells."""
        self._refusal, self._has_been_leaving = error, self.known is Known.LEAVING
        self.known = Known.NOTHING

    def looked(self, state: LiveState) -> None:
        """The gateway has said what it has, which settles all doubt unless it is answering."""
        refusal, self._refusal = self._refusal, None
        has_been_leaving, self._has_been_leaving = self._has_been_leaving, False
        if state.is_answering or state.is_committing:
            self.drop(refusal or _answering())
            return
        num_made = self._num_made(state)
        sent_off, self._sent_off = self._sent_off, None
        self.known = Known.ALL
        if num_made is None:
            self._confirmed, self.version = state.text or "", state.version
            has_failed = sent_off is not None and sent_off == self._confirmed
            if not (has_failed and self.is_commits_turn):  # that is to be tried again
                self.drop(_failed() if has_failed else _changed())
            return
        num_refused = self._num_sent - num_made
        self._confirm(num_made)
        self.version = state.version
        if refusal is None:
            return
        if not num_refused:
            if has_been_leaving and self.is_commits_turn:
                self.drop(refusal, self._waiting[0])
        elif (num_refused > 1 or has_been_leaving) and _is_of_request(refusal):
            self._max_edits = 1  # and the one at fault is found
        elif getattr(refusal, "code", None) != "version_conflict" or not num_made:
            self.drop(refusal)  # else an earlier copy of the request was made meanwhile

    def drop(self, error: HeadstartError, at: Waiting | None = None) -> None:
        """An edit or a commit is refused, the first or another, and with it all behind it."""
        if at is not None and at not in self._waiting:
            return
        kept = 0 if at is None else self._waiting.index(at)
        dropped = [self._waiting.pop() for _ in range(len(self._waiting) - kept)]
        self._leave(len(dropped))
        for one in dropped[:-1]:
            one.settle(behind(error))
        for one in dropped[-1:]:
            one.settle(error)

    def lost(self, error: HeadstartError) -> None:
        """Nobody says what became of any of them: that is asked before anything else is sent."""
        self.known = Known.NOTHING
        dropped, self._waiting = self._waiting, deque()
        self._leave(len(dropped))
        for one in dropped:
            one.settle(error)

    def sent_off(self) -> None:
        """The commit whose turn it is may be taken, and the edits that it took along with it: the
        text is gone then, or the answer fails."""
        if self.known is Known.LEAVING:
            self._confirm(self._num_sent)
        self._waiting.popleft()
        self._sent_off, self._confirmed = self._confirmed, ""
        self.known = Known.NOTHING

    def _leave(self, num_dropped: int) -> None:
        if not num_dropped:
            return
        self._num_sent = min(self._num_sent, len(self._waiting))
        self._max_edits = _MAX_EDITS
        self.text = self._text_with(len(self._waiting))

    def _confirm(self, num_edits: int) -> None:
        for _ in range(num_edits):
            one = self._waiting.popleft()
            self._confirmed = one.applied(self._confirmed)
            one.settle(None)
        self.version += num_edits
        self._num_sent = 0

    def _num_made(self, state: LiveState) -> int | None:
        """Return how many of the edits that were sent are made; None if others were."""
        if self._sent_off is not None:  # an answer counts as an edit, one that failed does not
            return 0 if not state.text else None
        num_made = state.version - self.version
        if not 0 <= num_made <= self._num_sent:
            return None
        return num_made if self._text_with(num_made) == state.text else None

    def _text_with(self, num_waiting: int) -> str:
        """Return the text as it is when so many of those that wait are made."""
        text = self._confirmed
        for one in islice(self._waiting, num_waiting):
            text = one.applied(text)
        return text


def behind(error: HeadstartError) -> LiveConflict:
    """Say that what came before was refused, and that this was not made therefore."""
    refused = LiveConflict(
        f"not made, since what came before it was refused: {error.message}", code="not_made"
    )
    refused.__cause__ = error
    return refused


def _is_of_request(error: HeadstartError) -> bool:
    """Whether a request is refused as a whole, whichever of its edits is at fault."""
    is_invalid = isinstance(error, LiveRefused) and error.code == "invalid_body"
    return is_invalid or isinstance(error, PayloadTooLarge)


def _answering() -> LiveConflict:
    return LiveConflict(
        "an answer is being made: cancel it or wait for its end", code="response_in_progress"
    )


def _failed() -> LiveConflict:
    return LiveConflict(
        "the answer failed or was refused, and its prompt is still there", code="response_failed"
    )


def _changed() -> LiveConflict:
    return LiveConflict(
        "the text is not what this edit was about: see `text`", code="version_conflict"
    )
