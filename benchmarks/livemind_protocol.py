"""LiveMind's protocol: a question is typed in virtual time, and real models think and answer.

Typing takes 240 characters a minute, the options come at once with the last one, and every call of
an engine moves that clock by what it took; the answer's latency counts from the last character,
with the thought that was still being made. Temperature 0, one question at a time. Each arm and
question has a part of the prefix cache of its own. Thoughts have the limits that the settings say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import uvloop

from headstart.benchmarks.livemind_curves import LLAMA_70B, stable_head
from headstart.benchmarks.livemind_typing import steadily
from headstart.benchmarks.load import chat_request, events, offer
from headstart.benchmarks.mmlu_pro import Question, answer_in
from headstart.stages.live_mind import LiveMind, MindLimits
from headstart.stages.mind_events import (
    Answer,
    Event,
    Failed,
    Retyped,
    SentOff,
    Stop,
    Think,
    Thoughtful,
)
from headstart.stages.mind_prompt import Format, MindPrompt, Noted
from headstart.stages.segmenter import segment_ends
from headstart.stages.thoughts import Kind, Thought, parse
from headstart.stages.warm_budget import TokenBudget

__all__ = ["Asking", "ModelArm", "Outcome", "Typed"]

_PATIENCE_S = 600.0
"""For an answer of a small model that reasons at length."""


@dataclass(frozen=True, slots=True)
class ModelArm:
    """One way to answer."""

    name: str
    form: Format | None = None
    """None thinks nothing."""
    is_warm: bool = True
    """Whether the text is prefilled while it is typed."""
    thinker: str = "own"
    """`other` is another served model; `replayed` is the recorded reasoning."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question, one arm."""

    first_token_s: float
    whole_s: float
    engine_s: float
    """Of all calls; a replayed thinker's are not in it."""
    stated: str | None
    """The letter that the answer names, if any."""
    is_right: bool
    num_thoughts: int
    output_tokens: int
    """Of the answer."""


@dataclass(frozen=True, slots=True)
class _Said:
    text: str
    num_tokens: int
    first_s: float
    whole_s: float


class Asking:
    """Calls models, and counts what that takes.

    Args:
        thinker: The model that thinks in the collaborative arm.
        max_tokens: Of an answer.
        limits: Of thoughts.
    """

    def __init__(
        self,
        url: str,
        model: str,
        thinker: str,
        max_tokens: int,
        limits: MindLimits,
    ) -> None:
        self._url = url
        self.model = model
        self.thinker = thinker
        self.max_tokens = max_tokens
        self.limits = limits

    def call(self, salt: str, model: str, messages: list[Any], max_tokens: int) -> _Said:
        """Have a conversation answered.

        Raises:
            AnswerRefused: It is not.
        """
        fields = {
            "ignore_eos": False,
            "stream_options": {"include_usage": True},
            "cache_salt": salt,
        }
        request = chat_request(model, messages, max_tokens, **fields)
        (exchange,) = uvloop.run(offer(self._url, [request], 1, _PATIENCE_S))
        whole_s = exchange.ended_at - exchange.sent_at
        first_s, parts, num_tokens = whole_s, list[str](), 0
        for at, chunk in events(exchange):
            if usage := chunk.get("usage"):
                num_tokens = usage["completion_tokens"]
            for choice in chunk["choices"]:
                if text := choice["delta"].get("content"):
                    first_s = min(first_s, at - exchange.sent_at)
                    parts.append(text)
        return _Said("".join(parts), num_tokens, first_s, whole_s)


class Typed:
    """One question that is typed in virtual time, and answered by one arm."""

    def __init__(self, asking: Asking, question: Question, arm: ModelArm) -> None:
        self._asking = asking
        self._question = question
        self._arm = arm
        self._salt = f"{arm.name} {question.number}"
        self._engine_s = 0.0
        self._mind = LiveMind(asking.limits, segment_ends, TokenBudget())
        self._edits = list(steadily(question.text)) if arm.form is not None else []
        self._text = ""
        self._pending: tuple[float, Event] | None = None
        self._landed: tuple[Noted, ...] = ()
        """Thoughts that were there when the last character was typed."""
        self._answer: tuple[Noted, ...] | None = None

    def run(self) -> Outcome:
        """Type, think and answer."""
        whole = self._question.whole
        if self._arm.form is None:
            if self._arm.is_warm:
                self._warm([{"role": "user", "content": self._typed}])
            return self._outcome([{"role": "user", "content": whole}], 0.0, ())
        now = sent_at = 0.0
        while self._answer is None:
            now, is_last = self._next(now)
            if is_last:
                sent_at = now
        prompt = MindPrompt(self._arm.form)
        landed = [one for one in self._landed if one.end <= len(self._typed)]
        self._warm(prompt.answering((), landed, self._typed, is_complete=False))
        messages = prompt.answering((), self._answer, whole, is_complete=True)
        return self._outcome(messages, now - sent_at, self._answer)

    @property
    def _typed(self) -> str:
        """What was prefilled by the time that the last character was typed."""
        return stable_head(self._question.text)

    def _next(self, now: float) -> tuple[float, bool]:
        """Let the next thing happen; return when, and whether it was the last character."""
        deadline = self._mind.deadline()
        typed_at = self._edits[0].at if self._edits else inf
        said_at = self._pending[0] if self._pending is not None else inf
        now = max(now, min(typed_at, said_at, inf if deadline is None else deadline))
        if said_at <= now:
            assert self._pending is not None
            event, self._pending = self._pending[1], None
            self._take(self._mind.feed(event, now), now)
            return now, False
        if typed_at <= now:
            edit = self._edits.pop(0)
            self._text += edit.text
            self._take(self._mind.feed(Retyped(edit.start, self._text), now), now)
            if self._edits:
                return now, False
            start, self._text = len(self._text), self._text + self._question.options
            self._take(self._mind.feed(Retyped(start, self._text), now), now)
            self._landed = self._mind.noted
            self._take(self._mind.feed(SentOff(), now), now)
            return now, True
        self._take(self._mind.expire(now), now)
        return now, False

    def _take(self, actions: Sequence[object], now: float) -> None:
        for action in actions:
            if isinstance(action, Think):
                self._pending = self._thought(action, now)
            elif isinstance(action, Stop):
                self._pending = now, Failed(action.job, None)
            elif isinstance(action, Answer):
                self._answer = action.noted

    def _thought(self, think: Think, now: float) -> tuple[float, Event]:
        """Have a thought made; return when it is there in virtual time."""
        assert self._arm.form is not None
        if self._arm.thinker == "replayed":
            thought, num_tokens = self._replayed(think)
            seconds = num_tokens * LLAMA_70B.token_s
        else:
            messages = MindPrompt(self._arm.form).thinking((), think.noted, self._text[: think.end])
            is_other = self._arm.thinker == "other"
            model = self._asking.thinker if is_other else self._asking.model
            salt = f"{self._salt}{' thinker' if is_other else ''}"
            said = self._asking.call(salt, model, messages, think.max_tokens)
            self._engine_s += said.whole_s
            thought, num_tokens, seconds = parse(said.text), said.num_tokens, said.whole_s
        return now + seconds, Thoughtful(think.job, thought, num_tokens)

    def _replayed(self, think: Think) -> tuple[Thought, int]:
        """Return the next words of the recorded reasoning, as far as the text has come."""
        words = self._question.unanswered.split()
        done = sum(len(one.thought.text.split()) for one in think.noted)
        upto = math.ceil(len(words) * think.end / len(self._question.text))
        taken = words[done : max(done, upto)]
        text = " ".join(taken)
        return Thought(Kind.INFERENCE if text else Kind.WAIT, text), math.ceil(len(taken) * 4 / 3)

    def _warm(self, messages: list[Any]) -> None:
        self._engine_s += self._asking.call(self._salt, self._asking.model, messages, 1).whole_s

    def _outcome(self, messages: list[Any], wait_s: float, noted: tuple[Noted, ...]) -> Outcome:
        asking = self._asking
        said = asking.call(self._salt, asking.model, messages, asking.max_tokens)
        stated = answer_in(said.text)
        return Outcome(
            wait_s + said.first_s,
            wait_s + said.whole_s,
            self._engine_s + said.whole_s,
            stated,
            stated == self._question.answer,
            sum(bool(one.thought.text) for one in noted),
            said.num_tokens,
        )
