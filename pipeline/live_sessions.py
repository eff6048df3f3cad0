"""Every live prompt of a gateway, until it is closed or has been silent for too long."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from headstart.cluster.tasks import Tasks
from headstart.pipeline.access import Caller
from headstart.pipeline.live_answer import Gone, Watcher
from headstart.pipeline.live_services import LiveServices
from headstart.pipeline.live_session import LiveSession
from headstart.stages.errors import EngineUnavailable, NotFound, Overloaded, RateLimited
from headstart.stages.shared_room import SharedRoom

__all__ = ["LiveSessions"]

_log = structlog.get_logger(__name__)

_CLOSE_S = 10.0
"""Longest that sessions may take to settle their accounts."""
_READ_S = 1.0
"""Longest that they wait for clients that do not read."""


@dataclass(eq=False)
class _Kept:
    session: LiveSession
    patience_s: float
    """How long it may be silent."""
    expires_at: float


class LiveSessions:
    """The table of sessions.

    Args:
        services: What they share.
        now: A monotonic clock, in seconds, for expiry.
    """

    def __init__(self, services: LiveServices, now: Callable[[], float]) -> None:
        self._services = services
        self._settings = services.settings
        self._now = now
        self._kept: dict[str, _Kept] = {}
        self._places = SharedRoom(self._settings.max_sessions)
        self._tasks = Tasks()

    def __len__(self) -> int:
        return len(self._kept)

    def create(self, caller: Caller) -> LiveSession:
        """Begin a session; it computes nothing before it is started.

        Raises:
            HeadstartError: It is refused.
        """
        self._services.access.check_live(caller)
        if self._services.answering.is_draining:
            raise EngineUnavailable("this gateway is stopping; try again")
        if len(self._kept) >= self._settings.max_sessions:
            raise Overloaded(
                f"all {self._settings.max_sessions} places for live prompts are taken; try again"
            )
        session = LiveSession(self._services, caller)
        if not self._places.take(caller.key_id, 1):
            raise RateLimited("the API key has its share of the places for live prompts; try again")
        self._kept[session.id] = kept = _Kept(session, 0.0, 0.0)
        self._wait_for(kept, self._settings.idle_timeout_s)
        self._services.metrics.set_live_sessions(len(self._kept))
        return session

    def get(self, session_id: str, caller: Caller) -> LiveSession:
        """Return a session, which counts as a sign of life.

        Raises:
            NotFound: It is unknown, expired or another's.
        """
        self._services.access.check_live(caller)
        self._services.access.check_owner(caller, session_id)
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
        """Let one connection have the session's news; it takes over from any other."""
        before, session.watcher = session.watcher, watcher
        if before is not None:
            before.tell(Gone.TAKEN_OVER)

    def unwatch(self, session: LiveSession, watcher: Watcher) -> None:
        """The connection is lost: the session can be taken up again for a while."""
        kept = self._kept.get(session.id)
        if kept is not None and session.watcher is watcher:
            session.watcher = None
            self._wait_for(kept, self._settings.resume_s)

    def end(self, session: LiveSession) -> None:
        """Forget a session and its text."""
        kept = self._kept.pop(session.id, None)
        if kept is None:
            return
        self._places.give_back(session.caller.key_id, 1)
        self._services.metrics.set_live_sessions(len(self._kept))
        self._tasks.start(session.close(), name="close live prompt")
        session.tell(Gone.ENDED)

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
        watchers = (kept.session.watcher for kept in self._kept.values())
        with suppress(TimeoutError):
            async with asyncio.timeout(_READ_S):
                await asyncio.gather(*(one.answered() for one in watchers if one is not None))
        for kept in list(self._kept.values()):
            self.end(kept.session)
        await self._tasks.finished(_CLOSE_S)
        await self._tasks.close()
        await self._services.loading.close()
