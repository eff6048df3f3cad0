"""LiveMind: decides what is thought about a prompt while it is being written.

One machine a session (arXiv 2406.14319, with a gate, a budget and edits). The text is cut into
segments; when new ones are complete, a thought about them is asked for, one at a time. A thought
counts as long as the text it is about, from the first code point on, is what it was. The answer's
prompt has the text and what is left of its thoughts.
"""

from bisect import bisect_right
from dataclasses import dataclass
from math import inf

from headstart.stages.mind_events import (
    Answer,
    AtCommit,
    Delayed,
    Dropped,
    Ended,
    Event,
    Failed,
    Loaded,
    MindAction,
    Reset,
    Resumed,
    Retyped,
    SentOff,
    Starved,
    Stop,
    Think,
    Thoughtful,
    ThoughtOutcome,
)
from headstart.stages.mind_prompt import Noted
from headstart.stages.segmenter import Segmenter, ends_a_phrase
from headstart.stages.warm_budget import RETRY_S, TokenBudget

__all__ = ["LiveMind", "MindAccount", "MindLimits"]

_LOOK_S = 0.25
"""How often the load is looked at while a thought runs, or waits for the load to fall."""
_MAX_PAUSE_S = 16.0
"""Longest pause after a thought that gave way or failed: each in a row doubles it."""


@dataclass(frozen=True, slots=True)
class MindLimits:
    """The gate: when a thought is worth asking for, and what it may take."""

    min_chars: int = 20
    """Fewest new code points."""
    interval_s: float = 0.5
    """Between the beginnings of two."""
    debounce_s: float = 0.05
    """After segments are complete: what is pasted and sent off at once is not thought about."""
    settle_s: float = 1.5
    """Quiet after which the last segment counts as complete, if it ends with a mark."""
    edit_settle_s: float = 0.5
    """Quiet after a correction, which often is the first of several."""
    max_tokens: int = 64
    min_tokens: int = 16
    """With less of its budget left, none is asked for."""
    max_thoughts: int = 32
    """About the text as it is; what was stopped, failed or was edited away is none."""
    max_running: int = 4
    """Requests that the replica may be busy with."""
    at_commit: AtCommit = AtCommit.CANCEL
    wait_s: float = 5.0
    """Longest that an answer waits for the thought that is being made."""


@dataclass(frozen=True, slots=True)
class MindAccount:
    """What was thought in one turn."""

    num_used: int
    """Thoughts that were in the answer's prompt."""
    used_tokens: int
    made_tokens: int
    """Of all thoughts, stopped ones too as far as known."""
    seconds: float
    """From the first token of each to its last."""


@dataclass(frozen=True, slots=True)
class _Job:
    number: int
    end: int
    reserved_tokens: int


class LiveMind:
    """The machine.

    Args:
        limits: The gate.
        segment: Cuts the text.
        budget: Thought tokens of the session's key, and of all.
    """

    def __init__(self, limits: MindLimits, segment: Segmenter, budget: TokenBudget) -> None:
        self._limits = limits
        self._segment = segment
        self._budget = budget
        self._text = ""
        self._ends: list[int] = []
        """Where segments end."""
        self._uncut_from: int | None = None
        """First code point whose segment may not be what it was."""
        self._noted: list[Noted] = []
        self._job: _Job | None = None
        self._delayed: int | None = None
        """The job that has to wait for a budget: no answer waits for that."""
        self._stopped: dict[int, tuple[_Job, ThoughtOutcome]] = {}
        """Jobs that were stopped and are not settled yet."""
        self._num_jobs = 0
        self._pause_s = RETRY_S
        """Before the next one, if a thought gives way or fails."""
        self._load = Loaded(0, 0)
        self._settles_at = self._blocked_until = self._next_at = self._looks_at = -inf
        self._complete_at: float | None = None
        """When there were new segments that are complete."""
        self._is_starved = False
        self._is_given_up = False
        """Whether asking again is useless."""
        self._sent_at: float | None = None
        """When the text was sent off; it is not thought about any more."""
        self._is_answered = False
        self._made_tokens, self._made_s = 0, 0.0

    @property
    def noted(self) -> tuple[Noted, ...]:
        """Thoughts that hold for the text as it is, shortest heads of it first."""
        return tuple(self._noted)

    @property
    def shown_to(self) -> int:
        """Code points before the last turn of the text in a prompt."""
        return max((one.end for one in self._noted if one.thought.text), default=0)

    @property
    def is_thinking(self) -> bool:
        return self._job is not None

    def account(self) -> MindAccount:
        """Say what was thought since the last reset."""
        used = [one for one in self._noted if one.thought.text] if self._is_answered else []
        used_tokens = sum(one.num_tokens for one in used)
        return MindAccount(len(used), used_tokens, self._made_tokens, self._made_s)

    def feed(self, event: Event, now: float) -> list[MindAction]:
        """Take what has happened; return what to do about it."""
        actions: list[MindAction] = []
        match event:
            case Retyped():
                actions = self._retyped(event, now)
            case Reset():
                actions = self._reset(event, now)
            case Loaded():
                self._load = event
            case Thoughtful():
                actions = self._thought(event, now)
            case Failed():
                actions = self._failed(event, now)
            case Delayed():
                self._delayed = event.job if event.is_delayed else None
            case Resumed():
                self._sent_at, self._is_answered = None, False
            case SentOff():
                self._sent_at = now
                if self._job is not None and self._limits.at_commit is AtCommit.CANCEL:
                    actions = self._stop(ThoughtOutcome.COMMITTED)
        return actions + self.expire(now)

    def deadline(self) -> float | None:
        """When `expire` has something to do; None while only an event can change that."""
        if self._sent_at is not None:
            is_over = self._is_answered or self._job is None
            return None if is_over else self._sent_at + self._limits.wait_s
        if self._job is not None:
            return self._looks_at
        if self._is_over:
            return None
        if self._uncut_from is not None:
            return self._blocked_until
        due = self._due()
        return None if due is None else max(due[0], self._next_at, self._blocked_until)

    def expire(self, now: float) -> list[MindAction]:
        """Return what to do now that it is `now`."""
        if self._sent_at is not None:
            return self._sent(now)
        if self._job is not None:
            return self._look(now)
        if not self._is_over and self._uncut_from is not None and now >= self._blocked_until:
            self._cut(now)
        at = self.deadline()
        if at is None or now < at:
            return []
        if self._is_busy:
            self._blocked_until = now + _LOOK_S
            return []
        return self._begin(now)

    @property
    def _is_over(self) -> bool:
        """Whether no further thought is asked for about this text as it is."""
        return self._is_given_up or len(self._noted) >= self._limits.max_thoughts

    def _retyped(self, event: Retyped, now: float) -> list[MindAction]:
        is_append = event.start == len(self._text)
        self._text = event.text
        actions = self._forget(event.start, ThoughtOutcome.EDITED)
        is_cut = self._uncut_from is None
        self._changed_from(event.start)
        self._settles_at = now + self._limits.settle_s
        if is_append and is_cut:
            self._cut(now)
        elif not is_append:  # all that follows is cut again, but not with every keystroke
            self._blocked_until = max(self._blocked_until, now + self._limits.edit_settle_s)
        self._is_given_up = False
        return actions

    def _reset(self, event: Reset, now: float) -> list[MindAction]:
        actions: list[MindAction] = []
        if self._is_answered:
            actions += [
                Ended(ThoughtOutcome.USED, one.num_tokens)
                for one in self._noted
                if one.thought.text
            ]
            self._noted.clear()
        actions += self._forget(-1, ThoughtOutcome.EDITED)
        self._text = event.text
        self._sent_at, self._is_answered, self._is_given_up = None, False, False
        self._made_tokens, self._made_s = 0, 0.0
        self._settles_at = now + self._limits.settle_s
        self._changed_from(0)
        return actions

    def _forget(self, start: int, outcome: ThoughtOutcome) -> list[MindAction]:
        """Drop every thought about text that is not what it was from `start` on."""
        actions: list[MindAction] = []
        if self._job is not None and self._job.end > start:
            actions += self._stop(outcome)
        kept = [one for one in self._noted if one.end <= start]
        if len(kept) < len(self._noted):
            actions.append(Dropped())
            actions += [
                Ended(ThoughtOutcome.DROPPED, one.num_tokens)
                for one in self._noted[len(kept) :]
                if one.thought.text
            ]
        self._noted = kept
        return actions

    def _changed_from(self, start: int) -> None:
        """Have the text cut again from `start` on."""
        self._uncut_from = start if self._uncut_from is None else min(start, self._uncut_from)

    def _cut(self, now: float) -> None:
        """Find the segments that are not known.

        Where one ends depends on what follows, so the last one before is cut again; a thought
        ends one, whatever follows.
        """
        start, self._uncut_from = self._uncut_from, None
        assert start is not None
        del self._ends[max(0, bisect_right(self._ends, start) - 1) :]
        begin = max(self._thought_to, self._ends[-1] if self._ends else 0)
        self._ends += [begin + end for end in self._segment(self._text[begin:])]
        if not self._has_complete:
            self._complete_at = None
        elif self._complete_at is None:
            self._complete_at = now

    @property
    def _thought_to(self) -> int:
        """Where the last thought ends."""
        return self._noted[-1].end if self._noted else 0

    @property
    def _new_ends(self) -> list[int]:
        """Where the last two segments after it end, as far as there are any."""
        return [end for end in self._ends[-2:] if end > self._thought_to]

    @property
    def _has_complete(self) -> bool:
        """Whether new segments are complete, and worth a thought."""
        ends = self._new_ends
        return len(ends) > 1 and ends[0] - self._thought_to >= self._limits.min_chars

    def _due(self) -> tuple[float, int] | None:
        """When a thought may be asked for next, and what it would be about."""
        ends = self._new_ends
        if not ends:
            return None
        if self._complete_at is not None:
            return self._complete_at + self._limits.debounce_s, ends[0]
        if ends[-1] - self._thought_to >= self._limits.min_chars and ends_a_phrase(self._text):
            return self._settles_at, ends[-1]
        return None

    @property
    def _is_busy(self) -> bool:
        return self._load.waiting > 0 or self._load.running > self._limits.max_running

    def _begin(self, now: float) -> list[MindAction]:
        limits = self._limits
        wanted = int(min(limits.max_tokens, self._budget.left(now)))
        if wanted < (least := min(limits.min_tokens, limits.max_tokens)):
            wait_s = self._budget.wait_s(least, now)
            self._blocked_until = now + max(wait_s, _LOOK_S)
            was_starved, self._is_starved = self._is_starved, True
            return [] if was_starved else [Starved()]
        self._is_starved = False
        due = self._due()
        assert due is not None
        # What was quiet for long enough may be more than what was complete before.
        end = self._ends[-1] if self._is_settled(now) else due[1]
        self._budget.take(wanted, now)
        self._num_jobs += 1
        self._job = _Job(self._num_jobs, end, wanted)
        self._next_at = now + limits.interval_s
        self._looks_at = now + _LOOK_S
        return [Think(self._job.number, self.noted, end, wanted)]

    def _is_settled(self, now: float) -> bool:
        return now >= self._settles_at and ends_a_phrase(self._text)

    def _look(self, now: float) -> list[MindAction]:
        """Have the thought that runs give way to requests that wait."""
        if now < self._looks_at:
            return []
        self._looks_at = now + _LOOK_S
        if not self._load.waiting:
            return []
        self._pause(now)
        return self._stop(ThoughtOutcome.YIELDED)

    def _pause(self, now: float) -> None:
        """Leave a replica alone that could not make a thought."""
        self._blocked_until = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)

    def _sent(self, now: float) -> list[MindAction]:
        """Answer as soon as no thought is waited for."""
        assert self._sent_at is not None
        if self._is_answered:
            return []
        actions: list[MindAction] = []
        if self._job is not None:
            is_delayed = self._job.number == self._delayed
            if not is_delayed and now < self._sent_at + self._limits.wait_s:
                return []
            actions = self._stop(ThoughtOutcome.COMMITTED)
        self._is_answered = True
        return [*actions, Answer(self.noted)]

    def _stop(self, outcome: ThoughtOutcome) -> list[MindAction]:
        job, self._job = self._job, None
        assert job is not None
        self._stopped[job.number] = job, outcome
        return [Stop(job.number)]

    def _thought(self, event: Thoughtful, now: float) -> list[MindAction]:
        job = self._job
        self._made_s += event.seconds
        if job is None or event.job != job.number:
            return self._settle(event.job, event.num_tokens, now)
        self._job, self._pause_s = None, RETRY_S
        self._charge(job, event.num_tokens, now)
        self._noted.append(Noted(job.end, event.thought, event.num_tokens))
        self._complete_at = None
        self._changed_from(job.end)
        return [] if event.thought.text else [Ended(ThoughtOutcome.WAIT, event.num_tokens)]

    def _failed(self, event: Failed, now: float) -> list[MindAction]:
        job = self._job
        self._made_s += event.seconds
        if job is not None and event.job == job.number:
            self._job = None
            self._stopped[job.number] = job, ThoughtOutcome.FAILED
            self._pause(now)
            self._is_given_up = event.is_final
        return self._settle(event.job, event.num_tokens, now)

    def _settle(self, number: int, num_tokens: int | None, now: float) -> list[MindAction]:
        """Close the account of a thought that came to nothing."""
        if number not in self._stopped:
            return []
        job, outcome = self._stopped.pop(number)
        return [Ended(outcome, self._charge(job, num_tokens, now))]

    def _charge(self, job: _Job, num_tokens: int | None, now: float) -> int:
        """Give back what a thought was allowed and did not take."""
        spent = job.reserved_tokens if num_tokens is None else num_tokens
        self._budget.take(spent - job.reserved_tokens, now)
        self._made_tokens += spent
        return spent
