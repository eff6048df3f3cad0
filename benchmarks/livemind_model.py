"""LiveMind's protocol on real models: latency, accuracy and engine seconds of every arm.

As in the paper, typing passes in virtual time (240 characters a minute, the options at once with
the last one) and every call of the engine moves that clock by what it took; the answer's latency
counts from the last character, with the thought that was still being made. Temperature 0, one
question at a time, arms in turn. Each arm and question has a part of the prefix cache of its own.

The first configured model answers. If a second is configured, it thinks in the collaborative arm;
else the first does, with a prefix cache apart as another engine would have.
"""

import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from headstart.benchmarks.livemind_replay import LLAMA_70B, steadily
from headstart.benchmarks.mmlu_pro import Question, answer_in
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Table
from headstart.benchmarks.servers import launch_headstart, wait_until_ready
from headstart.configs.settings import Settings
from headstart.stages.live_mind import LiveMind, MindLimits
from headstart.stages.mind_events import (
    Answer,
    AtCommit,
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
from headstart.stages.stable_prefix import boundary
from headstart.stages.thoughts import Kind, Thought, parse
from headstart.stages.warm_budget import WarmBudget

__all__ = ["ModelArm", "Outcome", "measure", "wilson"]

THOUGHT_TOKENS = 64
QUICK_S = 240.0
"""Longest that a quick run asks the model."""


@dataclass(frozen=True, slots=True)
class ModelArm:
    """One way to answer."""

    name: str
    form: Format | None = None
    """None thinks nothing."""
    is_warm: bool = True
    """Whether the text is prefilled while it is typed."""
    thinker: str = "own"
    """`other` has a model, or a cache, of its own; `replayed` is the recorded reasoning."""


ARMS = (
    ModelArm("plain chain of thought", is_warm=False),
    ModelArm("warm only"),
    ModelArm("ua-spi", Format.UA_SPI),
    ModelArm("ua-pil", Format.UA_PIL),
    ModelArm("two-prompts", Format.TWO_PROMPTS),
    ModelArm("collaborative", Format.UA_SPI, thinker="other"),
    ModelArm("collaborative, replayed thinker", Format.UA_SPI, thinker="replayed"),
)


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


@dataclass
class Found:
    """What the models' part of the benchmark found."""

    config: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Said:
    text: str
    num_tokens: int
    first_s: float
    whole_s: float


def measure(settings: Settings, options: BenchOptions, asked: Sequence[Question]) -> Found:
    """Ask the configured models; without a model that is real, say so."""
    models = settings.models[:2]
    if not models or models[0].engine == "fake":
        return Found({"not_measured": "no model is configured that is real"})
    limit = 96 if options.is_quick else 512
    with tempfile.TemporaryDirectory() as folder:
        arm, argv, port = launch_headstart(settings, models, Path(folder))
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(arm, f"{url}/readyz")
            with httpx.Client(base_url=url, timeout=600, trust_env=False) as client:
                asking = _Asking(client, models[0].name, models[-1].name, limit)
                found = _ask_all(asking, asked, options.is_quick)
        finally:
            arm.stop()
    config = {
        "models": [model.name for model in models],
        "command": list(argv),
        "questions": len(found),
        "answer_tokens": limit,
        "thought_tokens": THOUGHT_TOKENS,
        "thinker": "another model" if len(models) > 1 else "the same weights, another cache",
        "chance": float(np.mean([1 / one.num_options for one in asked[: len(found)]])),
        "questions_in_order": [one.number for one in asked[: len(found)]],
    }
    return Found(config, [_table(found)])


def _ask_all(
    asking: "_Asking", asked: Sequence[Question], is_quick: bool
) -> list[dict[str, Outcome]]:
    asking.call("warm-up", asking.model, [{"role": "user", "content": "Hello"}], 8)
    found: list[dict[str, Outcome]] = []
    began = time.monotonic()
    num = 40 if is_quick else 280
    for number, question in enumerate(asked[:num]):
        if is_quick and time.monotonic() - began > QUICK_S:
            break
        arms = ARMS[number % len(ARMS) :] + ARMS[: number % len(ARMS)]
        found.append({arm.name: _Typed(asking, question, arm).run() for arm in arms})
        print(f"question {number + 1}: {time.monotonic() - began:.0f} s", flush=True)
    return found


class _Asking:
    """Calls models, and counts what that takes."""

    def __init__(self, client: httpx.Client, model: str, thinker: str, max_tokens: int) -> None:
        self._client = client
        self.model = model
        self.thinker = thinker
        self.max_tokens = max_tokens

    def call(self, salt: str, model: str, messages: list[Any], max_tokens: int) -> _Said:
        """Have a conversation answered."""
        body = {
            "model": model,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "cache_salt": salt,
        }
        began = time.monotonic()
        first_s, parts, num_tokens = inf, list[str](), 0
        with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != httpx.codes.OK:
                raise RuntimeError(answer.read().decode())
            for line in answer.iter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                if chunk.get("usage"):
                    num_tokens = chunk["usage"]["completion_tokens"]
                for choice in chunk["choices"]:
                    if text := choice["delta"].get("content"):
                        first_s = min(first_s, time.monotonic() - began)
                        parts.append(text)
        whole_s = time.monotonic() - began
        return _Said("".join(parts), num_tokens, min(first_s, whole_s), whole_s)


class _Typed:
    """One question that is typed in virtual time, and answered by one arm."""

    def __init__(self, asking: _Asking, question: Question, arm: ModelArm) -> None:
        self._asking = asking
        self._question = question
        self._arm = arm
        self._salt = f"{arm.name} {question.number}"
        self._engine_s = 0.0
        limits = MindLimits(
            max_tokens=THOUGHT_TOKENS, at_commit=AtCommit.WAIT, wait_s=600.0, max_running=10**6
        )
        self._mind = LiveMind(limits, segment_ends, WarmBudget())
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
        return self._question.text[: boundary(self._question.text).cut]

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


def _table(found: Sequence[dict[str, Outcome]]) -> Table:
    rows = []
    for arm in ARMS:
        outcomes = [one[arm.name] for one in found]
        low, high = wilson(sum(one.is_right for one in outcomes), len(outcomes))
        rows.append(
            (
                arm.name,
                len(outcomes),
                *_spread([one.first_token_s for one in outcomes]),
                *_spread([one.whole_s for one in outcomes]),
                *_spread([one.engine_s for one in outcomes]),
                sum(one.is_right for one in outcomes) / max(1, len(outcomes)),
                low,
                high,
                sum(one.stated is None for one in outcomes) / max(1, len(outcomes)),
                float(np.mean([one.num_thoughts for one in outcomes])) if outcomes else None,
                float(np.mean([one.output_tokens for one in outcomes])) if outcomes else None,
            )
        )
    return Table(
        "Real models, seconds from the last character on, means with 95 % intervals. A small "
        "model's accuracy is near chance (config.model.chance), and says nothing of the method's",
        (
            *("arm", "questions", "first_s", "first_low", "first_high", "whole_s", "whole_low"),
            *("whole_high", "engine_s", "engine_low", "engine_high", "accuracy", "acc_low"),
            *("acc_high", "without_letter", "thoughts", "answer_tokens"),
        ),
        tuple(rows),
    )


def _spread(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return the mean and its 95 % interval, by resampling; None where there are too few."""
    if not values:
        return None, None, None
    mean = float(np.mean(values))
    if len(values) < 4:
        return mean, None, None
    random = np.random.default_rng(0)
    drawn = random.choice(np.asarray(values), size=(2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return mean, float(low), float(high)


def wilson(num_right: int, num: int) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a share (Wilson's)."""
    if not num:
        return None, None
    z, share = 1.96, num_right / num
    middle = share + z * z / (2 * num)
    half = z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return (middle - half) / (1 + z * z / num), (middle + half) / (1 + z * z / num)
