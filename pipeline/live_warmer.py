"""Does what the warm policy of one session decides: renders and prefills on its replica."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headstart.cluster.engine import EngineRequest
from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.tasks import Tasks
from headstart.monitoring.live_meter import LiveMeter
from headstart.stages.errors import (
    ClientError,
    ContextLengthExceeded,
    EngineError,
    HeadstartError,
)
from headstart.stages.routing import Wanted
from headstart.stages.stable_prefix import boundary, common_length, continuations
from headstart.stages.warm_budget import PrefillSpeed
from headstart.stages.warm_events import (
    Abort,
    Budget,
    Closed,
    Drop,
    Edited,
    LiveStage,
    Moved,
    Planned,
    Render,
    RenderFailed,
    Rendering,
    SliceFailed,
    SliceStarved,
    Warm,
    WarmAction,
    Warmed,
    WarmEvent,
)
from headstart.stages.warm_ledger import WarmLedger
from headstart.stages.warm_policy import WarmPolicy

__all__ = ["LiveWarmer", "Progress", "Prompt", "Replicas", "Written"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that can be rendered and prefilled."""

    model: str
    """The served name that its requests give."""
    text: str
    version: int
    request: Callable[[str], EngineRequest]
    """Makes the request that sends off a text in the place of this one."""
    cache_salt: str | None
    wanted: Wanted | None = None
    """What decides on the pool of its model."""
    may_leave: bool = False
    """Whether it is early enough to go to another pool than it began in, and begin anew."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a prompt is computed."""

    version: int
    """Of the text that all of it holds for; typing on leaves it so."""
    prompt_tokens: int
    """Of the latest rendering."""
    stable_tokens: int
    """How many of them further text cannot change."""
    warm_tokens: int
    """How many of those are in the replica's cache."""


class Written(Protocol):
    """A prompt that is being written."""

    def prompt(self) -> Prompt:
        """Return it as it is now."""

    def meter(self) -> LiveMeter:
        """Return what counts the work on it."""

    def tell(self, news: Progress | HeadstartError) -> None:
        """Take progress, and what the engine refuses to render."""


class Replicas(Protocol):
    """Where prompts are computed, and thoughts made."""

    def stay(
        self,
        model: str,
        link: RemoteEngine | None,
        wanted: Wanted | None = None,
        /,
        *,
        may_leave: bool = False,
    ) -> RemoteEngine:
        """Pick the replica that was picked last, or another where that is better."""

    def speed(self, link: RemoteEngine) -> PrefillSpeed:
        """Return how fast it prefills."""

    def forget(self, stream_id: str, /) -> None:
        """Drop the log of a stream that has ended."""


class LiveWarmer:
    """The shell around one `WarmPolicy`.

    Args:
        replicas: Where to compute.
        written: What to compute.
        policy: The machine.
        ledger: Of the session.
        renders: How many prompts of its key may be rendered at once.
    """

    def __init__(
        self,
        replicas: Replicas,
        written: Written,
        policy: WarmPolicy,
        ledger: WarmLedger,
        renders: asyncio.Semaphore,
    ) -> None:
        self.link: RemoteEngine | None = None
        """The replica that the session sticks to."""
        self.ledger = ledger
        """Of all that is computed ahead for the session."""
        self._place: tuple[RemoteEngine, str, str | None] | None = None
        """Replica, model and cache salt: what is in the cache for one is not for another."""
        self._has_left = False
        """Whether a replica was left that could have gone on: that is done once."""
        self._replicas = replicas
        self._written = written
        self._policy = policy
        self._renders = renders
        self._tasks = Tasks()
        self._rendering: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rendered = (0, 0)
        """Tokens of the latest rendering, and the version that the plan was made or cut for."""
        self._refused_for: tuple[str, str | None] | None = None
        """What was told of the latest rendering if it was refused: code and field at fault."""

    def feed(self, event: WarmEvent) -> None:
        """Let the policy know of something, and do what follows from it."""
        before = self._policy.warm_tokens
        self._do(self._policy.feed(event, time.monotonic()))
        if isinstance(event, Edited | Moved) and self._policy.warm_tokens < before:
            self._rendered = self._written.prompt().version, self._rendered[1]
            self._written.tell(self.progress)

    def start(self) -> None:
        """Begin with what comes before the text."""
        self._do(self._policy.expire(time.monotonic()))

    @property
    def progress(self) -> Progress:
        version, num_tokens = self._rendered
        policy = self._policy
        return Progress(version, num_tokens, policy.planned_tokens, policy.warm_tokens)

    def warm_ids(self, link: RemoteEngine, model: str, cache_salt: str | None) -> list[int]:
        """Return what is in a replica's cache for a model and salt, as far as is known here."""
        return self._policy.warm_ids if (link, model, cache_salt) == self._place else []

    async def close(self) -> None:
        """Stop everything; what was being computed is in the ledger then."""
        self.feed(Closed())
        await self._tasks.close()

    def _do(self, actions: list[WarmAction]) -> None:
        for action in actions:
            match action:
                case Render():
                    self._rendering = self._tasks.start(self._render(), name="render live prompt")
                case Drop():
                    assert self._rendering is not None
                    self._rendering.cancel()
                case Warm():
                    self._warming = self._tasks.start(
                        self._warm(action.tokens), name="warm live prompt"
                    )
                case Abort():
                    assert self._warming is not None
                    self._warming.cancel()
                    self._written.meter().aborted(action.why)
                case SliceStarved():
                    self._written.meter().starved(Budget.WARM)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := self._policy.deadline()) is not None:
            delay_s = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.start)

    def _replica(self, prompt: Prompt) -> RemoteEngine:
        may_leave = prompt.may_leave and not self._has_left
        link = self._replicas.stay(prompt.model, self.link, prompt.wanted, may_leave=may_leave)
        place = link, prompt.model, prompt.cache_salt
        if place != self._place:
            self._has_left |= may_leave and link is not self.link is not None
            self.link, self._place = link, place
            self.feed(Moved(self._replicas.speed(link)))
        return link

    async def _render(self) -> None:
        try:
            async with self._renders:
                planned = await self._planned()
        except Exception as error:  # the policy must hear of it, or it would wait for ever
            if isinstance(error, ClientError) and self._refused_for != (error.word, error.param):
                self._refused_for = error.word, error.param
                self._written.tell(error)
            is_final = not isinstance(error, EngineError)
            self.feed(RenderFailed(is_final, isinstance(error, ContextLengthExceeded)))
            if not isinstance(error, HeadstartError):
                raise
            return
        self._refused_for = None
        self.feed(planned)
        self._written.tell(self.progress)

    async def _planned(self) -> Planned:
        self.feed(Rendering())
        began = time.monotonic()
        prompt = self._written.prompt()
        at = boundary(prompt.text)
        texts = (prompt.text, *continuations(prompt.text, at))
        segmented = time.monotonic()
        link = self._replica(prompt)
        whole, *others = await asyncio.gather(
            *(link.render(prompt.request(text)) for text in texts)
        )
        rendered = time.monotonic()
        stable = whole[: common_length(whole, *others)]
        meter = self._written.meter()
        meter.passed(LiveStage.RENDER, rendered - segmented)
        meter.passed(LiveStage.SEGMENT, segmented - began + time.monotonic() - rendered)
        self._rendered = prompt.version, len(whole)
        return Planned(stable, at)

    async def _warm(self, tokens: list[int]) -> None:
        try:
            prompt = self._written.prompt()
            link = self._replica(prompt)
            warmth = await link.warm(tokens, cache_salt=prompt.cache_salt, model=prompt.model)
        except Exception as error:
            self.feed(SliceFailed())
            if not isinstance(error, HeadstartError):
                raise
            return
        self._written.meter().warmed(max(0, len(tokens) - 1 - warmth.num_cached), warmth.seconds)
        self.feed(Warmed(warmth.num_cached, warmth.seconds))
        self._written.tell(self.progress)
