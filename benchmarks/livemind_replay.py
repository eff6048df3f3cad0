"""LiveMind in virtual time: the real machine, and a model of which only lengths and speeds exist.

A simulation. A question is typed as in the paper, a chain of thought that a 70B model wrote for it
says how much there is to think, and a cost curve says how fast. How much of that thinking is left
to be done after the text was sent off is an argument, not a finding: no model is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from headstart.benchmarks.livemind_curves import LARGE, Answerer, Timed, stable_head
from headstart.benchmarks.livemind_tokens import Tokens
from headstart.benchmarks.livemind_typing import Edit
from headstart.benchmarks.mmlu_pro import Question
from headstart.stages.live_mind import LiveMind, MindLimits
from headstart.stages.mind_events import (
    Answer,
    AtCommit,
    Event,
    Failed,
    Retyped,
    SentOff,
    Starved,
    Stop,
    Think,
    Thoughtful,
)
from headstart.stages.mind_prompt import Format, MindPrompt, Noted
from headstart.stages.segmenter import Granularity, segmenter
from headstart.stages.stable_prefix import common_length
from headstart.stages.thoughts import Kind, Thought
from headstart.stages.warm_budget import TokenBudget

__all__ = ["Arm", "Session"]

LIMITS = MindLimits(max_tokens=256, max_running=10**6, wait_s=30.0)
"""No thought is cut short: the paper has no cap."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer."""

    name: str
    form: Format = Format.UA_SPI
    granularity: Granularity = Granularity.SENTENCE
    at_commit: AtCommit = AtCommit.WAIT
    limits: MindLimits = LIMITS
    thinker: Answerer = LARGE
    answerer: Answerer = LARGE
    """Another one is on an engine of its own."""


class Session:
    """One typed question, thought about by a replayed model.

    Whoever runs it calls `step` in the order of `due`.

    Args:
        question: What is typed, and what there is to think about it.
        edits: How it is typed; the last one completes it, and it is sent off at once.
        budget: Of thought tokens.
        is_strict: Whether what no thought came to, because there was none, is left too.
    """

    def __init__(
        self,
        question: Question,
        edits: Sequence[Edit],
        arm: Arm,
        tokens: Tokens,
        budget: TokenBudget,
        *,
        is_strict: bool = False,
    ) -> None:
        self._question = question
        self._edits = list(edits)
        self._tokens = tokens
        self._thinker, self._answerer = arm.thinker, arm.answerer
        self._is_shared = arm.thinker is arm.answerer
        """Whether what is computed for thoughts is computed for the answer too."""
        self._is_strict = is_strict
        self._reasoning = tokens.of(question.reasoning)
        self._prompt = MindPrompt(arm.form)
        segment = segmenter(arm.granularity)
        limits = replace(arm.limits, at_commit=arm.at_commit)
        self._mind = LiveMind(limits, segment, budget)
        ends = segment(question.text)
        self._last_end = ends[-2] if len(ends) > 1 else ends[-1]
        self._text = ""
        self._about = ""
        """The text that the latest thought is about."""
        self._job: tuple[Think, float, float, int] | None = None
        """Asked for, when, when its first token comes, its tokens."""
        self._ended_at = -inf
        """When the latest thought was there."""
        self._typed_at = -inf
        self._computed: list[int] = []
        self._engine_s = 0.0
        self._made: list[tuple[float, int]] = []
        """When thoughts were asked for, and how many tokens they took."""
        self._stopped_at: float | None = None
        self._sent_at = inf
        self.num_starved = 0
        self.timed: Timed | None = None
        """Set when it is over."""

    @property
    def made(self) -> list[tuple[float, int]]:
        """When thoughts were asked for, and how many tokens they took."""
        return self._made

    @property
    def due(self) -> float:
        """When something happens next."""
        times = [self._mind.deadline()]
        if self._edits:
            times.append(self._edits[0].at)
        if self._job is not None:
            times.append(self._ends_at)
        return min(one for one in times if one is not None)

    def step(self, now: float) -> None:
        """Let happen what is due."""
        if self._job is not None and self._ends_at <= now:
            think, asked_at, _, num_tokens = self._job
            self._job = None
            self._made.append((asked_at, num_tokens))
            self._engine_s += num_tokens * self._thinker.curve.token_s
            self._ended_at = now
            # What is thought stands for itself: it says what it is about.
            thought = Thought(Kind.INFERENCE, self._about)
            self._feed(Thoughtful(think.job, thought, num_tokens), now)
        elif self._edits and self._edits[0].at <= now:
            edit = self._edits.pop(0)
            self._text = self._text[: edit.start] + edit.text + self._text[edit.end :]
            self._typed_at = now
            self._feed(Retyped(edit.start, self._text), now)
            if not self._edits:
                self._text += self._question.options
                self._feed(Retyped(len(self._text) - len(self._question.options), self._text), now)
                self._sent_at = now
                self._feed(SentOff(), now)
        else:
            self._take(self._mind.expire(now), now)

    @property
    def _ends_at(self) -> float:
        assert self._job is not None
        return self._job[2] + self._job[3] * self._thinker.curve.token_s

    def _feed(self, event: Event, now: float) -> None:
        self._take(self._mind.feed(event, now), now)

    def _take(self, actions: Sequence[object], now: float) -> None:
        for action in actions:
            if isinstance(action, Think):
                self._think(action, now)
            elif isinstance(action, Stop):
                self._stop(action, now)
            elif isinstance(action, Starved):
                self.num_starved += 1
            elif isinstance(action, Answer):
                self._answer(action.noted, now)

    def _think(self, think: Think, now: float) -> None:
        """Begin a thought: as long as what can be thought about the text so far."""
        share = (1 - self._thinker.left) * min(1.0, think.end / self._last_end)
        wanted = round(self._reasoning * share) - sum(one.num_tokens for one in think.noted)
        messages = self._prompt.thinking((), self._shown(think.noted), self._text[: think.end])
        begins = now + self._prefill(messages)
        num_tokens = max(1, min(wanted, think.max_tokens))
        self._job = think, now, begins, num_tokens
        self._about = self._text[: think.end]

    def _stop(self, stop: Stop, now: float) -> None:
        assert self._job is not None
        _, asked_at, begins, num_tokens = self._job
        self._job = None
        token_s = self._thinker.curve.token_s
        made = min(num_tokens, max(0, int((now - begins) / token_s) + 1))
        if now < begins:
            made = 0
        self._made.append((asked_at, made))
        self._engine_s += made * token_s
        # The step that is being computed is not broken off.
        if self._is_shared:
            self._stopped_at = begins + made * token_s if made else max(now, begins)
        self._feed(Failed(stop.job, made), now)

    def _answer(self, noted: tuple[Noted, ...], now: float) -> None:
        curve, left = self._answerer.curve, self._answerer.left
        busy_s = max(0.0, (self._stopped_at or now) - now)
        is_wrong = any(one.thought.text != self._text[: one.end] for one in noted)
        shown = self._shown(noted)
        whole = self._tokens.rendered(
            self._prompt.answering((), shown, self._text, is_complete=True)
        )
        cached = self._cached(shown, whole)
        landed = sum(one.num_tokens for one in noted)
        share = max(left, 1 - landed / self._reasoning) if self._is_strict else left
        output = max(1, round(self._reasoning * self._answerer.length * share))
        first = now - self._sent_at + busy_s + curve.prefill_s(len(whole) - cached) + curve.token_s
        self._engine_s += curve.prefill_s(len(whole) - cached) + output * curve.token_s
        self.timed = Timed(
            now - self._sent_at,
            first,
            first + (output - 1) * curve.token_s,
            self._engine_s,
            len(noted),
            sum(num for _, num in self._made),
            share,
            is_wrong,
        )

    def _cached(self, noted: Sequence[Noted], whole: list[int]) -> int:
        """How much of the answer's prompt was computed before the text was sent off."""
        typed = stable_head(self._text[: len(self._text) - len(self._question.options)])
        if self._ended_at >= self._typed_at and noted:
            # Nothing was prefilled behind the latest thought yet, nor, elsewhere, the thought.
            typed = self._text[: noted[-1].end] if self._is_shared else typed
            noted = noted if self._is_shared else noted[:-1]
        ahead = self._tokens.rendered(self._prompt.answering((), noted, typed, is_complete=False))
        curve = self._answerer.curve
        cached = curve.whole(common_length(whole, ahead))
        known = curve.whole(common_length(whole, self._computed)) if self._is_shared else 0
        self._engine_s += curve.prefill_s(max(0, cached - known))
        return cached

    def _prefill(self, messages: list[object]) -> float:
        """Return how long it takes to prefill what of a thought's prompt is new."""
        ids = self._tokens.rendered(messages)
        curve = self._thinker.curve
        new = len(ids) - curve.whole(common_length(ids, self._computed))
        self._computed = ids
        self._engine_s += curve.prefill_s(new)
        return curve.prefill_s(new)

    def _shown(self, noted: Sequence[Noted]) -> list[Noted]:
        """Return thoughts with a text of their length: words of the reasoning."""
        words = self._question.reasoning.split() or ["so"]
        shown: list[Noted] = []
        at = 0
        for one in noted:
            count = max(1, one.num_tokens * 3 // 4)
            taken = [words[(at + index) % len(words)] for index in range(count)]
            at += count
            shown.append(replace(one, thought=Thought(Kind.INFERENCE, " ".join(taken))))
        return shown
