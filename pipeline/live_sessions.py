"""Every live prompt of a gateway, until it is closed or has been silent for too long."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import structlog

from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.replica_pool import ReplicaPool
from headstart.cluster.tasks import Tasks
from headstart.configs.live import LiveSettings
from headstart.configs.model_settings import CPU_BLOCK_TOKENS
from headstart.monitoring.live_meter import LiveMeter
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.access import Access, Caller
from headstart.pipeline.answering import Answering
from headstart.pipeline.live_events import MindConfig
from headstart.pipeline.live_session import LiveSession
from headstart.pipeline.live_thinker import LiveThinker
from headstart.pipeline.live_warmer import LiveWarmer, Progress, Prompt
from headstart.stages.errors import (
    EngineUnavailable,
    Forbidden,
    HeadstartError,
    LiveRefused,
    NotFound,
    Overloaded,
    RateLimited,
)
from headstart.stages.live_mind import LiveMind, MindLimits
from headstart.stages.rate_limit import Bucket
from headstart.stages.segmenter import Segmenter, segmenter
from headstart.stages.shared_room import Share, SharedRoom
from headstart.stages.thoughts import Kind
from headstart.stages.warm_budget import PrefillSpeed, WarmBudget
from headstart.stages.warm_events import LiveStage
from headstart.stages.warm_ledger import WarmLedger
from headstart.stages.warm_policy import WarmLimits

__all__ = ["LiveSessions", "Watcher"]

_log = structlog.get_logger(__name__)

_MAX_WAIT = 10
"""Debounces that typing without a pause puts rendering off."""
_CLOSE_S = 10.0
"""Longest that sessions may take to settle their accounts."""
_READ_S = 1.0
"""Longest that they wait for clients that do not read."""


class Watcher(Protocol):
    """The one connection that a session's events go to."""

    def replaced(self) -> None:
        """Another one has taken over."""

    def expired(self) -> None:
        """The session has ended."""

    async def answered(self) -> None:
        """Wait until the answers that were begun have been passed on."""


@dataclass(eq=False)
class _Kept:
    session: LiveSession
    patience_s: float
    """How long it may be silent."""
    expires_at: float
    watcher: Watcher | None = None


class LiveSessions:
    """The table of sessions.

    Args:
        pool: The replicas.
        answering: Takes committed prompts.
        access: Whose session it is, and what a key may compute ahead.
        metrics: Told of everything.
        settings: Limits.
        now: A monotonic clock, in seconds, for expiry.
        forget: Drops the log of a stream that has ended.
    """

    def __init__(
        self,
        pool: ReplicaPool,
        answering: Answering,
        access: Access,
        metrics: Metrics,
        settings: LiveSettings,
        now: Callable[[], float],
        forget: Callable[[str], None],
    ) -> None:
        self._forget = forget
        self._pool = pool
        self._answering = answering
        self._access = access
        self._metrics = metrics
        self._settings = settings
        self._now = now
        self._kept: dict[str, _Kept] = {}
        self._places = SharedRoom(settings.max_sessions)
        self._chars = SharedRoom(settings.max_total_chars)
        self._renders: dict[str, asyncio.Semaphore] = {}
        """Of each key."""
        self._speeds: WeakKeyDictionary[RemoteEngine, PrefillSpeed] = WeakKeyDictionary()
        self._all = Bucket(settings.tokens_per_minute)
        self._thoughts = Bucket(settings.thinking.tokens_per_minute)
        self._tasks = Tasks()

    def __len__(self) -> int:
        return len(self._kept)

    def create(self, caller: Caller) -> LiveSession:
        """Begin a session; it computes nothing before it is started.

        Raises:
            HeadstartError: It is refused.
        """
        self._access.check_live(caller)
        if self._pool.is_draining:
            raise EngineUnavailable("this gateway is stopping; try again")
        if len(self._kept) >= self._settings.max_sessions:
            raise Overloaded(
                f"all {self._settings.max_sessions} places for live prompts are taken; try again"
            )
        key_id = caller.key_id
        renders = self._renders.setdefault(key_id, asyncio.Semaphore(self._settings.max_renders))
        ledger = WarmLedger(WarmBudget(self._all, *self._access.warm_buckets(caller)))
        session = LiveSession(
            self._access.stream_id(caller),
            caller,
            self._answering,
            self._access.salting(caller),
            self._pool.continuity.abort,
            self._metrics,
            self._settings.max_chars,
            Share(self._chars, key_id),
            lambda *parts: self._warmer(ledger, renders, *parts),
            self._thinker,
        )
        if not self._places.take(key_id, 1):
            raise RateLimited("the API key has its share of the places for live prompts; try again")
        self._kept[session.id] = kept = _Kept(session, 0.0, 0.0)
        self._wait_for(kept, self._settings.idle_timeout_s)
        self._metrics.set_live_sessions(len(self._kept))
        return session

    def get(self, session_id: str, caller: Caller) -> LiveSession:
        """Return a session, which counts as a sign of life.

        Raises:
            NotFound: It is unknown, expired or another's.
        """
        self._access.check_live(caller)
        self._access.check_owner(caller, session_id)
        self.expire()
        kept = self._kept.get(session_id)
        if kept is None:
            raise NotFound("no such live prompt: unknown or expired")
        self.touch(kept.session)
        return kept.session

    def touch(self, session: LiveSession) -> None:
        """Note a sign of life."""
        if (kept := self._kept.get(session.id)) is not None:
            self._wait_for(kept, self._settings.idle_timeout_s)

    def watch(self, session: LiveSession, watcher: Watcher) -> None:
        """Let one connection have the session's events; it takes over from any other."""
        kept = self._kept[session.id]
        before, kept.watcher = kept.watcher, watcher
        if before is not None:
            before.replaced()

    def unwatch(self, session: LiveSession, watcher: Watcher) -> None:
        """The connection is lost: the session can be taken up again for a while."""
        kept = self._kept.get(session.id)
        if kept is not None and kept.watcher is watcher:
            kept.watcher = None
            session.tell = lambda _: None
            self._wait_for(kept, self._settings.resume_s)

    def end(self, session: LiveSession) -> None:
        """Forget a session and its text."""
        kept = self._kept.pop(session.id, None)
        if kept is None:
            return
        self._places.give_back(session.caller.key_id, 1)
        self._metrics.set_live_sessions(len(self._kept))
        self._tasks.start(session.close(), name="close live prompt")
        if kept.watcher is not None:
            kept.watcher.expired()

    def expire(self) -> None:
        """End the sessions that have been silent for too long; none while it is answered."""
        now = self._now()
        for kept in [one for one in self._kept.values() if one.expires_at <= now]:
            if kept.session.is_answering:
                self._wait_for(kept, kept.patience_s)
            else:
                _log.info("live_prompt_expired")
                self.end(kept.session)

    def _wait_for(self, kept: _Kept, patience_s: float) -> None:
        kept.patience_s, kept.expires_at = patience_s, self._now() + patience_s

    async def close(self) -> None:
        """End every session; who watches one is told of its answer's end before."""
        watchers = [kept.watcher for kept in self._kept.values() if kept.watcher is not None]
        with suppress(TimeoutError):
            async with asyncio.timeout(_READ_S):
                await asyncio.gather(*(watcher.answered() for watcher in watchers))
        for kept in list(self._kept.values()):
            self.end(kept.session)
        await self._tasks.finished(_CLOSE_S)
        await self._tasks.close()

    def stay(self, model: str, link: RemoteEngine | None) -> RemoteEngine:
        """Pick the replica for a session; see `ReplicaPool.stay`."""
        return self._pool.stay(self._pool.served[model], link)

    def speed(self, link: RemoteEngine) -> PrefillSpeed:
        """Return how fast a replica prefills, as far as it is known."""
        if link not in self._speeds:
            slice_s = self._settings.slice_s
            self._speeds[link] = PrefillSpeed(link.info.block_size, slice_s)
        return self._speeds[link]

    def _thinker(self, session: LiveSession, warmer: LiveWarmer, mind: MindConfig) -> LiveThinker:
        """Make what thinks about a session's text.

        Raises:
            HeadstartError: It may not be.
        """
        settings = self._settings.thinking
        if not settings.enabled:
            raise Forbidden("live prompts are not thought about here", param="mode")
        if Kind.INFERENCE not in mind.actions:
            raise LiveRefused(
                "actions must have `inference`", param="actions", code="invalid_event"
            )
        model = session.model
        if mind.thinker is not None:
            model = self._answering.name_for(mind.thinker, session.caller)
        self._access.check_thinking(session.caller)
        limits = MindLimits(
            min_chars=settings.min_chars,
            interval_s=settings.interval_s,
            settle_s=settings.settle_s,
            max_tokens=min(settings.max_tokens, mind.max_tokens or settings.max_tokens),
            max_thoughts=settings.max_thoughts,
            max_running=settings.max_running,
            at_commit=mind.at_commit,
            wait_s=settings.wait_s,
        )
        budget = WarmBudget(self._thoughts, *self._access.thinking_buckets(session.caller))
        meter = self._metrics.live(self._answering.configured(model))
        segment = _timed(segmenter(mind.segments, mind.language.lower()), meter)
        machine = LiveMind(limits, segment, budget)
        return LiveThinker(
            machine,
            model,
            model == session.model,
            mind.actions,
            self,
            warmer,
            session.question,
            meter,
            session.rethought,
            self._forget,
        )

    def _warmer(
        self,
        ledger: WarmLedger,
        renders: asyncio.Semaphore,
        prompt: Callable[[], Prompt],
        meter: Callable[[], LiveMeter],
        tell: Callable[[Progress | HeadstartError], None],
    ) -> LiveWarmer:
        settings = self._settings
        limits = WarmLimits(
            settings.debounce_s, settings.edit_debounce_s, _MAX_WAIT * settings.debounce_s
        )
        unknown = PrefillSpeed(CPU_BLOCK_TOKENS, settings.slice_s)
        return LiveWarmer(self, prompt, limits, unknown, ledger, renders, meter, tell)


def _timed(segment: Segmenter, meter: LiveMeter) -> Segmenter:
    def timed(text: str) -> list[int]:
        began = time.monotonic()
        ends = segment(text)
        meter.passed(LiveStage.SEGMENT, time.monotonic() - began)
        return ends

    return timed
