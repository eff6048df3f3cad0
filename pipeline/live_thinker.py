"""Does what the LiveMind machine of one session decides: has a model think about its text.

A thought is an ordinary request in the background. Its prompt is prefilled in slices like any
that is computed ahead, its answer is read from its log and forgotten at once.
"""

import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from headstart.cluster.engine import EngineRequest
from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.stream import Stream
from headstart.cluster.tasks import Tasks, first_of
from headstart.monitoring.live_meter import LiveMeter
from headstart.pipeline.live_history import said
from headstart.pipeline.live_warmer import LiveWarmer, Replicas
from headstart.stages.errors import ClientError, EngineUnavailable, HeadstartError, NotFound
from headstart.stages.live_mind import LiveMind, MindAccount
from headstart.stages.mind_events import (
    Answer,
    Delayed,
    Dropped,
    Ended,
    Event,
    Failed,
    Loaded,
    MindAction,
    Reset,
    Retyped,
    SentOff,
    Starved,
    Stop,
    Think,
    Thoughtful,
)
from headstart.stages.mind_prompt import Noted
from headstart.stages.mirror import StreamEnd
from headstart.stages.routing import Wanted
from headstart.stages.stable_prefix import common_length
from headstart.stages.stage_clock import Mark
from headstart.stages.thoughts import Kind, parse
from headstart.stages.warm_budget import PrefillSpeed
from headstart.stages.warm_events import Budget, LiveStage

__all__ = ["LiveThinker", "Question", "ThinkingModel", "ThoughtAbout"]

_ABORT_S = 5.0
"""Longest that the account of a stopped thought is waited for."""


@dataclass(frozen=True, slots=True)
class Question:
    """A thought that is asked for."""

    request: EngineRequest
    cache_salt: str | None
    wanted: Wanted | None = None
    """What decides on the pool of its model, where that is not the one that answers."""


@dataclass(frozen=True, slots=True)
class ThinkingModel:
    """Who thinks."""

    name: str
    """That it is served by."""
    is_own: bool
    """Whether it answers, too, and finds what was computed for thoughts."""
    actions: tuple[Kind, ...]
    """What it may do."""
    meter: LiveMeter
    """Counts what it does."""


class _Prefilled(NamedTuple):
    """How much of a thought's prompt there is, and how much was computed before it is asked."""

    num_tokens: int
    num_known: int


class ThoughtAbout(Protocol):
    """A session whose text is thought about."""

    @property
    def warmer(self) -> LiveWarmer:
        """What it has computed need not be computed again."""

    def question(self, think: Think) -> Question:
        """Make the request for a thought."""

    def rethought(self) -> None:
        """Take that there is a thought more, or some less."""


class LiveThinker:
    """The shell around one `LiveMind`.

    Args:
        mind: The machine.
        model: Who thinks.
        replicas: Where to think.
        about: Whose text.
    """

    def __init__(
        self, mind: LiveMind, model: ThinkingModel, replicas: Replicas, about: ThoughtAbout
    ) -> None:
        self._mind = mind
        self._model = model
        self._replicas = replicas
        self._about = about
        self._warmer = about.warmer
        self._link: RemoteEngine | None = None
        self._known: list[int] = []
        """Of the prompt of the latest thought, what its replica has in its cache."""
        self._known_salt: str | None = None
        """Its cache salt."""
        self._stops: dict[int, asyncio.Event] = {}
        self._tasks = Tasks()
        self._thinking: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._answer: asyncio.Future[tuple[Noted, ...]] | None = None

    @property
    def noted(self) -> tuple[Noted, ...]:
        """Thoughts that hold for the text as it is."""
        return self._mind.noted

    @property
    def shown_to(self) -> int:
        """Code points before the last turn of the text in a prompt."""
        return self._mind.shown_to

    @property
    def is_own(self) -> bool:
        """Whether the model that answers is the one that thinks."""
        return self._model.is_own

    def account(self) -> MindAccount:
        """Say what was thought about the latest text."""
        return self._mind.account()

    def feed(self, event: Event) -> None:
        """Let the machine know of something, and do what follows from it."""
        if isinstance(event, Reset | Retyped) and not event.text:
            self._known = []  # the ids are the text, and that shall be forgotten
        now = time.monotonic()
        self._do([*self._mind.feed(self._loaded(), now), *self._mind.feed(event, now)])

    async def sent_off(self) -> tuple[Noted, ...]:
        """Return the thoughts that an answer's prompt shall have, when no more are waited for."""
        self._answer = asyncio.get_running_loop().create_future()
        self.feed(SentOff())
        return await self._answer

    def wait_no_longer(self) -> None:
        """Have `sent_off` return: nobody wants the answer any more."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(())

    async def close(self) -> None:
        """Stop everything, and forget what was thought."""
        self.feed(Reset(""))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NotFound("no such live prompt: unknown or expired"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._known = []
        # What they took is still to be charged.
        await asyncio.gather(*self._thinking, return_exceptions=True)
        await self._tasks.close()

    def _loaded(self) -> Loaded:
        try:
            load = self._replicas.stay(self._model.name, self._beside).load()
        except EngineUnavailable:
            return Loaded(sys.maxsize, 0)  # nothing can begin, and nobody waits
        return Loaded(max(0, load.running - self._mind.is_thinking), load.waiting)

    def _do(self, actions: list[MindAction]) -> None:
        has_changed = False
        for action in actions:
            match action:
                case Think():
                    stop = self._stops[action.job] = asyncio.Event()
                    task = self._tasks.start(self._think(action, stop), name="live thought")
                    self._thinking.add(task)
                    task.add_done_callback(self._thinking.discard)
                case Stop():
                    self._stops[action.job].set()
                case Answer():
                    if self._answer is not None and not self._answer.done():
                        self._answer.set_result(action.noted)
                case Dropped():
                    has_changed = True
                case Ended():
                    self._model.meter.thought(action.outcome, action.num_tokens)
                case Starved():
                    self._model.meter.starved(Budget.THOUGHTS)
        self._arm()
        if has_changed:
            self._about.rethought()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := self._mind.deadline()) is not None:
            delay_s = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)

    def _expire(self) -> None:
        self.feed(self._loaded())

    async def _think(self, think: Think, stop: asyncio.Event) -> None:
        began, num_before = time.monotonic(), len(self.noted)
        outcome: Thoughtful | Failed = Failed(think.job, None)
        try:
            outcome = await self._made(think, stop)
        finally:  # whatever it was, the machine can go on
            self._model.meter.passed(LiveStage.THINK, time.monotonic() - began)
            self.feed(outcome)
            del self._stops[think.job]
        if len(self.noted) > num_before:
            self._about.rethought()

    async def _made(self, think: Think, stop: asyncio.Event) -> Thoughtful | Failed:
        """Have a thought made, unless it is stopped."""
        try:
            question = self._about.question(think)
            link = self._replica(question.wanted)
            prefilled = await first_of(self._prefill(link, question, think.job), stop.wait())
            if prefilled is None:
                return Failed(think.job, 0)
            stream = link.serve(question.request)
        except HeadstartError as error:
            return Failed(think.job, 0, is_final=isinstance(error, ClientError))
        stream.on_end(lambda: self._replicas.forget(stream.id))
        try:
            await first_of(stream.finished(), stop.wait())
        finally:
            if stream.end is None:
                await link.abort(stream.id)
        with suppress(TimeoutError):
            async with asyncio.timeout(_ABORT_S):
                await stream.finished()
        self._count(link, stream, prefilled)
        return self._outcome(think, stream)

    def _count(self, link: RemoteEngine, stream: Stream, prefilled: _Prefilled) -> None:
        """Count what of its prompt a thought has had computed, behind the slices.

        Of one that was stopped before its first token nobody says how far that came: all counts,
        if it has got as far as the engine.
        """
        end = stream.end or StreamEnd(is_aborted=True)
        num_tokens, num_cached = end.prompt_tokens, end.cached_tokens
        if end.is_aborted and stream.clock.get(Mark.FIRST_TOKEN) is None:
            if stream.clock.get(Mark.TOKENISED) is None:
                return
            num_tokens, num_cached = prefilled
        computed = max(0, self._replicas.speed(link).whole(num_tokens) - num_cached)
        seconds = _seconds(stream, Mark.SCHEDULED, Mark.FIRST_TOKEN)
        self._model.meter.warmed(computed, seconds)
        self._warmer.ledger.computed(
            0,
            computed,
            num_cached,
            seconds,
            time.monotonic(),
            is_elsewhere=not self._model.is_own,
        )

    def _outcome(self, think: Think, stream: Stream) -> Thoughtful | Failed:
        end, header = stream.end, stream.log.header
        seconds = _seconds(stream, Mark.FIRST_TOKEN, Mark.LAST_TOKEN)
        if end is None or end.failure is not None:
            return Failed(think.job, None, seconds=seconds)
        if end.is_aborted:
            return Failed(think.job, end.output_tokens, seconds=seconds)
        if header is None or not header.is_event_stream:
            return Failed(think.job, 0, is_final=True)  # the engine refuses it
        thought = parse(said(stream)["content"], self._model.actions)
        return Thoughtful(think.job, thought, end.output_tokens, seconds)

    @property
    def _beside(self) -> RemoteEngine | None:
        return self._warmer.link if self._model.is_own else self._link

    def _replica(self, wanted: Wanted | None = None) -> RemoteEngine:
        link = self._replicas.stay(self._model.name, self._beside, wanted)
        if link is not self._link:
            self._link, self._known = link, []
        return link

    async def _prefill(self, link: RemoteEngine, question: Question, job: int) -> _Prefilled:
        """Compute all of a prompt but its last slice, slice by slice."""
        tokens, salt = await link.render(question.request), question.cache_salt
        if salt != self._known_salt:
            self._known, self._known_salt = [], salt
        speed = self._replicas.speed(link)
        warm = self._warmer.warm_ids(link, self._model.name, salt)
        known = max(common_length(tokens, one) for one in (self._known, warm))
        known = speed.whole(known)
        while len(tokens) - known > speed.slice_tokens:
            await self._afford(speed, job)
            known = await self._slice(link, tokens, known, salt)
            self._know(tokens[:known], link, job)
        self._know(tokens, link, job)
        return _Prefilled(len(tokens), known)

    def _know(self, tokens: list[int], link: RemoteEngine, job: int) -> None:
        """Remember what a replica has cached, unless what asked for it has been stopped.

        Then it may be about text that has been forgotten meanwhile.
        """
        is_stopped = job in self._stops and self._stops[job].is_set()
        if link is self._link and not is_stopped:
            self._known = tokens

    async def _afford(self, speed: PrefillSpeed, job: int) -> None:
        """Wait until the budget has a block; an answer does not wait for that."""
        is_delayed = False
        while wait_s := self._warmer.ledger.wait_s(speed, time.monotonic()):
            self._model.meter.starved(Budget.WARM)
            is_delayed = True
            self.feed(Delayed(job, is_delayed))
            await asyncio.sleep(wait_s)
        if is_delayed:
            self.feed(Delayed(job, False))

    async def _slice(
        self, link: RemoteEngine, tokens: list[int], known: int, cache_salt: str | None
    ) -> int:
        """Compute the next slice, which the budget has; return where it ends."""
        ledger, speed = self._warmer.ledger, self._replicas.speed(link)
        missing = speed.whole(len(tokens) - known)
        reserved = ledger.reserve(missing, speed, time.monotonic())
        end = known + reserved
        is_elsewhere = not self._model.is_own
        try:
            head = tokens[: end + 1]
            warmth = await link.warm(head, cache_salt=cache_salt, model=self._model.name)
        except asyncio.CancelledError:
            ledger.aborted(reserved, known, is_elsewhere=is_elsewhere)
            raise
        except BaseException:
            ledger.failed(reserved, time.monotonic())
            raise
        computed, now = max(0, end - warmth.num_cached), time.monotonic()
        ledger.computed(
            reserved, computed, warmth.num_cached, warmth.seconds, now, is_elsewhere=is_elsewhere
        )
        speed.observe(computed, warmth.seconds)
        self._model.meter.warmed(computed, warmth.seconds)
        return end


def _seconds(stream: Stream, begin: Mark, end: Mark) -> float:
    """Return the time between two moments of an answer that is over, or from one to its end."""
    began, ended = stream.clock.get(begin), stream.clock.get(end)
    if began is None:
        return 0.0
    return max(0.0, (time.monotonic() if ended is None else ended) - began)
