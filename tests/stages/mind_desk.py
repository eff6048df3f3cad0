"""Somebody who types, a LiveMind machine, a simulated model, and virtual time."""

from dataclasses import dataclass, field

from headstart.stages.live_mind import LiveMind, MindLimits
from headstart.stages.mind_events import (
    Answer,
    Ended,
    Event,
    MindAction,
    Retyped,
    Stop,
    Think,
    Thoughtful,
    ThoughtOutcome,
)
from headstart.stages.prompt_document import PromptDocument
from headstart.stages.segmenter import Segmenter, segment_ends
from headstart.stages.thoughts import Kind, Thought
from headstart.stages.warm_budget import TokenBudget

LIMITS = MindLimits(min_chars=5, interval_s=0.0, debounce_s=0.0)
FIRST, SECOND, THIRD = "The train leaves. ", "It takes an hour. ", "When is it there?"


@dataclass
class Desk:
    """Somebody who types, a machine, and what the machine has asked for."""

    limits: MindLimits = LIMITS
    budget: TokenBudget = field(default_factory=TokenBudget)
    now: float = 0.0
    asked: list[Think] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    done: list[MindAction] = field(default_factory=list)
    about: str = ""
    """The text that the latest question was about."""
    segment: Segmenter = segment_ends

    def __post_init__(self) -> None:
        self.mind = LiveMind(self.limits, self.segment, self.budget)
        self.document = PromptDocument(10_000)

    def feed(self, event: Event) -> None:
        self.take(self.mind.feed(event, self.now))

    def take(self, actions: list[MindAction]) -> None:
        for action in actions:
            if isinstance(action, Think):
                assert self.mind.is_thinking
                self.asked.append(action)
                self.about = self.document.text[: action.end]
            elif isinstance(action, Stop):
                self.stopped.append(action.job)
            self.done.append(action)

    def type(self, text: str) -> None:
        self.replace(len(self.document.text), len(self.document.text), text)

    def replace(self, start: int, end: int, text: str) -> None:
        self.document.replace(start, end, text)
        self.feed(Retyped(start, self.document.text))

    def wait(self, seconds: float) -> None:
        """Let time pass, as a timer would see it."""
        until = self.now + seconds
        while (due := self.mind.deadline()) is not None and due <= until:
            before = self.now
            self.now = max(self.now, due)
            self.take(self.mind.expire(self.now))
            if self.now == before and self.mind.deadline() == due:
                raise AssertionError("the machine wants to be called again at once")
        self.now = until

    def say(self, text: str = "", num_tokens: int = 10) -> None:
        """Answer the latest question with what it was about, or with `text`."""
        job = self.asked[-1]
        about = text or self.about
        kind = Kind.WAIT if text == "-" else Kind.INFERENCE
        thought = Thought(kind, "" if kind is Kind.WAIT else about)
        self.feed(Thoughtful(job.job, thought, num_tokens))

    @property
    def answers(self) -> list[Answer]:
        return [one for one in self.done if isinstance(one, Answer)]

    @property
    def outcomes(self) -> list[tuple[ThoughtOutcome, int]]:
        return [(one.outcome, one.num_tokens) for one in self.done if isinstance(one, Ended)]
