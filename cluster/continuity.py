"""Keeps detached answers going when a replica, a link, or the gateway itself is lost.

A link that is lost may be all that is lost: the replica then goes on, and its log is taken up
where the mirror ends. Otherwise another replica makes the answer again, beginning with what the
log holds (`headstart.stages.replay`). Readers notice a pause.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from headstart.cluster import messages, secure_socket
from headstart.cluster.engine import EngineRequest
from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.stream import Stream, StreamTable
from headstart.cluster.tasks import Tasks
from headstart.configs.fields import MIB
from headstart.configs.serving import MAX_MESSAGE_BYTES, DataPlaneSettings
from headstart.monitoring.labels import Rescue
from headstart.stages.errors import EngineLost, EngineUnavailable, NotContinued, NotFound
from headstart.stages.failure import Failure
from headstart.stages.mirror import StreamEnd

__all__ = ["Continuity", "Replicas"]

_log = structlog.get_logger(__name__)

_MOVABLE_BYTES = MAX_MESSAGE_BYTES - MIB
"""Longest request and log that fit one message of the data plane."""

_FIND_S = 3.0
"""Longest that a reader waits for a gateway that has just started to know its replicas."""


class Replicas(Protocol):
    """What this module asks of the pool of replicas."""

    async def available(self, model: str, avoid: RemoteEngine | None) -> RemoteEngine:
        """Wait for a link that can take a request, and choose one."""

    async def at(self, address: str) -> RemoteEngine:
        """Wait for an open link to one replica."""

    async def settled(self) -> None:
        """Wait until every replica that is known has answered."""


@dataclass(eq=False)
class _Live:
    """An answer in the making."""

    stream: Stream
    model: str
    link: RemoteEngine | None
    """Who makes it; None while nobody does."""
    num_moves: int = 0
    is_cancelled: bool = False
    """Somebody asked for its end, and whoever makes it may not have heard."""


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """An answer that a replica has more of than this gateway, as far as is known."""

    address: str
    log_end: int
    """Cursor that the replica's log had reached."""
    until: float
    """When it has expired there at the latest, unless it is live, on this process's clock."""


class Continuity:
    """Every answer in the making, and who makes it.

    Args:
        replicas: Where to go on.
        streams: Where answers are mirrored.
        settings: How often and how long to try.
    """

    def __init__(
        self, replicas: Replicas, streams: StreamTable, settings: DataPlaneSettings
    ) -> None:
        self._replicas = replicas
        self._streams = streams
        self._settings = settings
        self._live: dict[str, _Live] = {}
        self._elsewhere: dict[str, _Elsewhere] = {}
        self._tasks = Tasks()
        self._is_closed = False
        self.on_rescue: Callable[[str, Rescue], None] = lambda model, rescue: None
        """Told, with the model's name, of everything that happens here."""
        self.on_inherited: Callable[[Stream], None] = lambda stream: None
        """Told of every live answer that a gateway before this one had asked for."""

    @property
    def num_live(self) -> int:
        """Answers in the making."""
        return len(self._live)

    def serve(
        self,
        link: RemoteEngine,
        model: str,
        request: EngineRequest,
        *,
        is_detached: bool,
    ) -> Stream:
        """Have a replica answer a request."""
        stream = link.serve(request, is_detached=is_detached)
        self._watch(_Live(stream, model, link))
        return stream

    async def abort(self, stream: Stream) -> None:
        """Stop an answer; finished ones are left as they are."""
        live = self._live.get(stream.id)
        if live is None:
            return
        live.is_cancelled = True
        if live.link is not None:
            await live.link.abort(stream.id)
        else:
            stream.finish(StreamEnd(is_aborted=True))

    async def find(self, stream_id: str, after: int = 0) -> Stream:
        """Return a stream, fetching it from a replica where this gateway does not have it.

        Args:
            after: Cursor that the log shall reach, if the replica's does.

        Raises:
            NotFound: It is unknown or expired.
            EngineUnavailable: It may be with a replica that has not answered yet.
        """
        if not self._knows(stream_id):
            has_asked_all = await self._within(self._replicas.settled())
            if not has_asked_all and not self._knows(stream_id):
                raise EngineUnavailable(f"who has stream {stream_id} is not known yet; try again")
        known = self._elsewhere.get(stream_id)
        if known is not None and self._lacks(stream_id, known):
            await self._within(self._fetch(stream_id, known))
            if stream_id not in self._streams:
                raise EngineUnavailable(f"who has stream {stream_id} does not answer; try again")
        stream = self._streams.get(stream_id)
        if known is not None:
            reach = min(after, known.log_end)
            await stream.until(lambda: stream.log.end >= reach, _FIND_S)
            if stream.log.end >= known.log_end:
                # Another reader may have come to know it meanwhile.
                self._elsewhere.pop(stream_id, None)
        if (failure := stream.failure) is not None and failure.error == NotFound.__name__:
            self._elsewhere.pop(stream_id, None)
            self._streams.drop(stream_id)
            raise NotFound(failure.message)
        return stream

    def runs(self, addresses: set[str]) -> None:
        """Forget what only replicas had that run no more."""
        self._elsewhere = {
            stream_id: known
            for stream_id, known in self._elsewhere.items()
            if known.address in addresses
        }

    def expire(self) -> None:
        """Forget what no replica can have any more."""
        now, due = self._streams.now(), []
        for stream_id, known in self._elsewhere.items():
            if known.until > now:
                break
            if stream_id not in self._live:
                due.append(stream_id)
        for stream_id in due:
            del self._elsewhere[stream_id]

    def opened(self, link: RemoteEngine, model: str) -> None:
        """Take stock of what a replica has that was asked for before this link."""
        if not link.is_up:
            return  # lost in the turn it opened: the next one takes stock
        until = self._streams.now() + self._streams.ttl_s
        for kept in link.take_kept():
            live = self._live.get(kept.stream_id)
            if kept.stream_id not in self._streams:
                self._elsewhere.pop(kept.stream_id, None)  # those that expire first lead
                self._elsewhere[kept.stream_id] = _Elsewhere(link.address, kept.log_end, until)
                if kept.is_live:
                    self._take_over(link, model, kept)
            elif kept.is_live and (live is None or live.link not in (None, link)):
                # It was continued elsewhere, or cancelled, while this replica was out of reach.
                self._tasks.start(link.abort(kept.stream_id), name="abort leftover")

    def orphaned(self, link: RemoteEngine, streams: list[Stream]) -> list[Stream]:
        """Adopt streams that a replica makes no more; return those adopted."""
        if self._is_closed:
            return []
        adopted = []
        for stream in streams:
            live = self._live.get(stream.id)
            if live is not None and live.is_cancelled:
                # A replica that goes on with it hears of that when a link to it opens again.
                stream.finish(StreamEnd(is_aborted=True))
            elif live is not None and stream.end is None:
                live.link = None
                adopted.append(live)
        if adopted:
            self._tasks.start(self._rescue(link, adopted), name="rescue")
        return [live.stream for live in adopted]

    async def close(self) -> None:
        """Let every answer that nobody makes end."""
        self._is_closed = True
        await self._tasks.close()
        for live in tuple(self._live.values()):
            if live.link is None:
                self._give_up(live, "the gateway stops")

    def _watch(self, live: _Live) -> None:
        self._live[live.stream.id] = live
        live.stream.on_end(lambda: self._ended(live))

    def _ended(self, live: _Live) -> None:
        del self._live[live.stream.id]
        self._elsewhere.pop(live.stream.id, None)
        failure = live.stream.failure
        if failure is not None and failure.error == NotContinued.__name__:
            self._rescued(live, Rescue.REFUSED)

    def _take_over(self, link: RemoteEngine, model: str, kept: messages.Kept) -> None:
        """Mirror a live stream of a gateway that is gone."""
        stream = link.attach(kept.stream_id, 0)
        self._streams.detach(stream, kept.request)
        self.on_inherited(stream)
        live = _Live(stream, model, link)
        self._watch(live)
        self._rescued(live, Rescue.TAKEN_UP)

    async def _fetch(self, stream_id: str, known: _Elsewhere) -> None:
        link = await self._replicas.at(known.address)
        if self._lacks(stream_id, known):
            self._streams.drop(stream_id)
            stream = link.attach(stream_id, 0)
            self._streams.detach(stream, None)
        await self._streams.get(stream_id).finished()

    def _knows(self, stream_id: str) -> bool:
        return stream_id in self._streams or stream_id in self._elsewhere

    def _lacks(self, stream_id: str, known: _Elsewhere) -> bool:
        """Whether an answer has yet to be fetched, or again: the link was lost over it."""
        if stream_id not in self._streams:
            return True
        stream = self._streams.get(stream_id)
        is_cut = stream.failure is not None and stream.failure.error == EngineLost.__name__
        return is_cut and stream.log.end < known.log_end

    async def _rescue(self, lost: RemoteEngine, orphans: list[_Live]) -> None:
        limit_s = self._settings.silence_limit_s
        if not lost.is_up and await secure_socket.is_listening(lost.address, limit_s):
            # Only the link was lost: the pool opens another.
            try:
                async with asyncio.timeout(limit_s):
                    link = await self._replicas.at(lost.address)
            except TimeoutError:
                pass
            else:
                for live in self._still_live(orphans):
                    live.link = link
                    link.take_up(live.stream)
                    self._rescued(live, Rescue.TAKEN_UP)
                return
        avoid = lost if lost.is_up else None
        await asyncio.gather(*(self._move(live, avoid) for live in self._still_live(orphans)))

    async def _move(self, live: _Live, avoid: RemoteEngine | None) -> None:
        """Have another replica go on with an answer."""
        request = live.stream.request
        if request is None:
            self._give_up(live, "there was no room to keep its request")
            return
        if len(request.body) + live.stream.log.end > _MOVABLE_BYTES:
            self._give_up(live, "it is too long to be moved")
            return
        if live.num_moves >= self._settings.max_failovers:
            # It may be the answer itself that kills replicas.
            self._give_up(live, f"{live.num_moves + 1} replicas were lost while they answered it")
            return
        live.num_moves += 1
        try:
            async with asyncio.timeout(self._settings.failover_wait_s):
                link = await self._replicas.available(live.model, avoid)
        except TimeoutError:
            self._give_up(live, "no other could take it in time")
            return
        for orphan in self._still_live([live]):
            orphan.link = link
            self._rescued(orphan, Rescue.MOVED)
            link.go_on(orphan.stream)

    @staticmethod
    def _still_live(orphans: list[_Live]) -> list[_Live]:
        return [live for live in orphans if live.stream.end is None and live.link is None]

    def _give_up(self, live: _Live, reason: str) -> None:
        if live.stream.end is None:
            self._rescued(live, Rescue.GIVEN_UP)
            message = f"the replica was lost while it answered, and {reason}"
            live.stream.finish(StreamEnd(failure=Failure.of(EngineLost(message))))

    def _rescued(self, live: _Live, rescue: Rescue) -> None:
        _log.info("answer_rescue", model=live.model, outcome=rescue.value)
        self.on_rescue(live.model, rescue)

    @staticmethod
    async def _within(work: Awaitable[None]) -> bool:
        """Wait for `work`, not for ever; return whether it was done."""
        try:
            async with asyncio.timeout(_FIND_S):
                await work
        except TimeoutError:
            return False
        return True
