"""LiveMind in virtual time: the real machine, and a model of which only lengths and speeds exist.

A simulation. A question is typed as in the paper, a chain of thought that a 70B model wrote for it
says how much there is to think, and a cost curve says how fast. How much of that thinking is left
to be done after the text was sent off is an argument, not a finding: no model is asked.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

from headstart.benchmarks.livemind_tokens import Tokens
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
from headstart.stages.stable_prefix import boundary, common_length
from headstart.stages.thoughts import Kind, Thought
from headstart.stages.warm_budget import WarmBudget

__all__ = [
    "LLAMA_70B",
    "Arm",
    "CostCurve",
    "Edit",
    "Session",
    "Timed",
    "haltingly",
    "plain",
    "steadily",
    "warm_only",
]

CHAR_S = 0.25
"""240 characters a minute, as in the paper."""


@dataclass(frozen=True, slots=True)
class CostCurve:
    """How fast a model is, one request at a time."""

    name: str
    prefill_tokens_per_s: float
    token_s: float
    block_size: int = 16

    def prefill_s(self, num_tokens: int) -> float:
        return num_tokens / self.prefill_tokens_per_s

    def whole(self, num_tokens: int) -> int:
        return num_tokens // self.block_size * self.block_size


LLAMA_70B = CostCurve("Llama-3-70B AWQ on one A100-80G", 1000.0, 16.33 / 303.7)
"""Seconds a token: LiveMind v1's plain arm, 16.33 s for 303.7 tokens on average, published. Its
prefill was not: about half of what the card could do at its peak is assumed."""


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


@dataclass(frozen=True, slots=True)
class Edit:
    """Something that is done to the text at a time."""

    at: float
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Timed:
    """What one session took, from its last character on."""

    wait_s: float
    """For the thought in the making."""
    first_token_s: float
    """With that wait."""
    whole_s: float
    engine_s: float
    """Of everything: thoughts, what was prefilled ahead, the answer."""
    num_thoughts: int
    """In the answer's prompt."""
    thought_tokens: int
    """Of all thoughts, stopped ones too."""
    left_share: float
    """Of the reasoning, after the text was sent off."""
    is_wrong: bool = False
    """Whether a thought about text that was edited away was in the answer's prompt."""


def plain(question: Question, tokens: Tokens, curve: CostCurve) -> Timed:
    """Everything is computed when the text is sent off."""
    prompt = len(tokens.rendered([{"role": "user", "content": question.whole}]))
    return _answered(curve, prompt, 0, tokens.of(question.reasoning))


def warm_only(question: Question, tokens: Tokens, curve: CostCurve) -> Timed:
    """The text is prefilled while it is typed, and nothing is thought."""
    whole = tokens.rendered([{"role": "user", "content": question.whole}])
    typed = tokens.rendered([{"role": "user", "content": _stable(question.text)}])
    cached = curve.whole(common_length(whole, typed))
    return _answered(curve, len(whole), cached, tokens.of(question.reasoning))


def _answered(curve: CostCurve, prompt: int, cached: int, output: int) -> Timed:
    first = curve.prefill_s(prompt - cached) + curve.token_s
    whole = first + (output - 1) * curve.token_s
    engine = whole + curve.prefill_s(cached)
    return Timed(0.0, first, whole, engine, 0, 0, 1.0)


class Session:
    """One typed question, thought about by a replayed model.

    Whoever runs it calls `step` in the order of `due`.

    Args:
        question: What is typed, and what there is to think about it.
        edits: How it is typed; the last one completes it, and it is sent off at once.
        share: Of the reasoning, what is left for the answer.
        is_strict: Whether what no thought came to, because there was none, is left too.
    """

    def __init__(
        self,
        question: Question,
        edits: Sequence[Edit],
        arm: Arm,
        tokens: Tokens,
        curve: CostCurve,
        share: float,
        budget: WarmBudget,
        *,
        is_strict: bool = False,
    ) -> None:
        self._question = question
        self._edits = list(edits)
        self._tokens = tokens
        self._curve = curve
        self._share = share
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
            times.append(self._job[2] + self._job[3] * self._curve.token_s)
        return min(one for one in times if one is not None)

    def step(self, now: float) -> None:
        """Let happen what is due."""
        if self._job is not None and self._ends_at <= now:
            think, asked_at, _, num_tokens = self._job
            self._job = None
            self._made.append((asked_at, num_tokens))
            self._engine_s += num_tokens * self._curve.token_s
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
        return self._job[2] + self._job[3] * self._curve.token_s

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
        share = (1 - self._share) * min(1.0, think.end / self._last_end)
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
        made = min(num_tokens, max(0, int((now - begins) / self._curve.token_s) + 1))
        if now < begins:
            made = 0
        self._made.append((asked_at, made))
        self._engine_s += made * self._curve.token_s
        # The step that is being computed is not broken off.
        self._stopped_at = max(now, begins) if made == 0 else begins + made * self._curve.token_s
        self._feed(Failed(stop.job, made), now)

    def _answer(self, noted: tuple[Noted, ...], now: float) -> None:
        curve = self._curve
        busy_s = max(0.0, (self._stopped_at or now) - now)
        is_wrong = any(one.thought.text != self._text[: one.end] for one in noted)
        shown = self._shown(noted)
        whole = self._tokens.rendered(
            self._prompt.answering((), shown, self._text, is_complete=True)
        )
        cached = self._cached(shown, whole)
        landed = sum(one.num_tokens for one in noted)
        share = max(self._share, 1 - landed / self._reasoning) if self._is_strict else self._share
        output = max(1, round(self._reasoning * share))
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
        typed = _stable(self._text[: len(self._text) - len(self._question.options)])
        if self._ended_at >= self._typed_at and noted:
            typed = self._text[: noted[-1].end]  # nothing was prefilled behind it yet
        ahead = self._tokens.rendered(self._prompt.answering((), noted, typed, is_complete=False))
        cached = self._curve.whole(common_length(whole, ahead))
        known = self._curve.whole(common_length(whole, self._computed))
        self._engine_s += self._curve.prefill_s(max(0, cached - known))
        return cached

    def _prefill(self, messages: list[object]) -> float:
        """Return how long it takes to prefill what of a thought's prompt is new."""
        ids = self._tokens.rendered(messages)
        new = len(ids) - self._curve.whole(common_length(ids, self._computed))
        self._computed = ids
        self._engine_s += self._curve.prefill_s(new)
        return self._curve.prefill_s(new)

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


def _stable(text: str) -> str:
    """Return the head of a text that has been prefilled when its last character is typed."""
    return text[: boundary(text).cut]


def steadily(text: str, begins: float = 0.0, char_s: float = CHAR_S) -> Iterator[Edit]:
    """Yield how a text is typed without a pause, word by word."""
    start = 0
    for word in _words(text):
        end = start + len(word)
        yield Edit(begins + end * char_s, start, start, word)
        start = end


def haltingly(text: str, chooser: random.Random, begins: float = 0.0) -> Iterator[Edit]:
    """Yield how somebody types who pauses, mistypes words and goes back to them later."""
    at, written = begins, ""
    wrong: tuple[int, str, str] | None = None
    for word in _words(text):
        at += len(word) * CHAR_S * chooser.uniform(0.5, 1.5)
        if chooser.random() < 0.05:
            at += chooser.expovariate(1 / 4.0)
        typed = word
        if wrong is None and len(word) > 2 and chooser.random() < 0.15:
            typed = word[1] + word[0] + word[2:] if word[0] != word[1] else f"x{word}"
            wrong = len(written), typed, word
        yield Edit(at, len(written), len(written), typed)
        written += typed
        if wrong is not None and chooser.random() < 0.2:
            at += chooser.uniform(0.5, 2.0)
            edit, written = _corrected(at, written, wrong)
            yield edit
            wrong = None
    if wrong is not None:
        edit, written = _corrected(at + 1.0, written, wrong)
        yield edit
    assert written == text


def _corrected(at: float, written: str, wrong: tuple[int, str, str]) -> tuple[Edit, str]:
    start, typed, right = wrong
    end = start + len(typed)
    return Edit(at, start, end, right), written[:start] + right + written[end:]


def _words(text: str) -> Iterator[str]:
    start = 0
    for end in [*(at + 1 for at, char in enumerate(text[:-1]) if char == " "), len(text)]:
        yield text[start:end]
        start = end
