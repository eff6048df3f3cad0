"""A gateway's links to every replica, kept in step with the table that the daemon sends."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

import msgspec
import structlog

from headstart.cluster.continuity import Continuity
from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.secure_socket import is_listening
from headstart.cluster.stream import StreamTable
from headstart.cluster.tasks import Tasks
from headstart.configs.settings import DataPlaneSettings
from headstart.stages.errors import EngineLost, EngineUnavailable
from headstart.stages.language import closest
from headstart.stages.routing import (
    Candidate,
    Routed,
    Wanted,
    is_worth_leaving,
    least_busy,
    pool_for,
)

__all__ = ["ReplicaAddress", "ReplicaPool"]

_log = structlog.get_logger(__name__)


class ReplicaAddress(msgspec.Struct, frozen=True):
    """Where one running replica listens."""

    replica_id: str
    model: str
    address: str
    pool: str = ""
    """Language that it has a drafter for; empty in the common pool."""


_RETIRE_S = 10.0
"""Longest that a replica on its way out may finish its answers: Serve's own patience."""
_STOPPED = "this gateway was stopped before the answer was complete; ask again"


class ReplicaPool:
    """Connects to replicas as they come, lets go of them as they leave, and picks one.

    Args:
        models: Names of the configured models.
        streams: Where every link mirrors its answers.
        settings: The data plane's.
        adapters: Further names that requests may give, and the model that answers to each.
        languages: By model, those that have a pool of replicas with a drafter.
    """

    def __init__(
        self,
        models: tuple[str, ...],
        streams: StreamTable,
        settings: DataPlaneSettings,
        adapters: Mapping[str, str] | None = None,
        languages: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.served = dict(zip(models, models, strict=True)) | dict(adapters or {})
        """Every name that requests may give, and the configured model that it leads to."""
        self._languages = languages or {}
        self._streams = streams
        self._settings = settings
        self._links: dict[str, dict[str, RemoteEngine]] = {model: {} for model in models}
        self._table: dict[str, ReplicaAddress] = {}
        self._pools: dict[RemoteEngine, str] = {}
        self._hot: dict[str, set[str]] = {}
        """By model, the pools that were too busy when one was last chosen for."""
        self._leaving: set[RemoteEngine] = set()
        """Links that no request may choose any more, and that are not closed yet."""
        self._counted: set[RemoteEngine] = set()
        """Links whose replicas' answers are known: each is so a moment after it is up."""
        self._tasks = Tasks()
        self._turn = 0
        self._is_draining = False
        self._has_table = False
        self._waiters: set[asyncio.Future[None]] = set()
        self.on_routed: Callable[[str, Routed], None] = lambda model, routed: None
        """Told of every choice between a model's pools, with its name."""
        self.continuity = Continuity(self, streams, settings)
        """Every answer in the making, and who makes it."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the configured models."""
        return tuple(self._links)

    @property
    def is_ready(self) -> bool:
        """Whether every model has a replica that can answer, and new requests are welcome."""
        return not self._is_draining and all(self.up(model) for model in self._links)

    @property
    def is_draining(self) -> bool:
        """Whether only what has begun may still be answered."""
        return self._is_draining

    def drain(self) -> None:
        """Be ready no more: the gateway is about to stop. Answers in the making go on."""
        self._is_draining = True

    def up(self, model: str) -> list[RemoteEngine]:
        """Return the links of a model that can take a request now."""
        return [link for link in self._links[model].values() if link.is_up]

    def speculation(self, name: str) -> str | None:
        """Return how a request for a served name is drafted for that does not say.

        A replica has said it: what the settings leave open its weights decide. None where nothing
        drafts, or no replica can answer.
        """
        links = self.up(self.served[name]) if name in self.served else []
        return links[0].info.speculation if links else None

    def num_known(self, model: str) -> int:
        """Return how many replicas of a model Serve has running."""
        return sum(replica.model == model for replica in self._table.values())

    def update(self, table: list[ReplicaAddress]) -> None:
        """Take the list of replicas that run now; connect and disconnect in the background."""
        self._table = {replica.replica_id: replica for replica in table}
        self._has_table = True
        self.continuity.runs({replica.address for replica in table})
        for model, links in self._links.items():
            for replica_id in [key for key in links if key not in self._table]:
                link = links.pop(replica_id)
                self._leaving.add(link)
                self._tasks.start(self._retire(link), name=f"retire {model}")
        for replica in table:
            if (
                replica.model in self._links
                and replica.replica_id not in self._links[replica.model]
            ):
                self._connect(replica)
        self._wake()

    async def available(self, model: str, avoid: RemoteEngine | None) -> RemoteEngine:
        """Wait for a replica that can take a request, and pick it."""
        await self._until(lambda: any(link is not avoid for link in self.up(model)))
        links = [link for link in self.up(model) if link is not avoid]
        # What a drafter's replica refuses was never with one, and may be here.
        return self._least_busy([link for link in links if not self._pool_of(link)] or links)

    async def at(self, address: str) -> RemoteEngine:
        """Wait for an open link to one replica."""
        await self._until(lambda: bool(self._up_at(address)))
        return self._up_at(address)[0]

    async def settled(self) -> None:
        """Wait until what every replica of the table has is known.

        One whose link was lost counts too, also while there is no other yet.
        """
        await self._until(
            lambda: self._has_table and all(map(self._is_counted, self._table.values()))
        )

    def choose(self, model: str, wanted: Wanted | None = None) -> RemoteEngine:
        """Pick the replica for a request.

        Args:
            wanted: What decides on its pool; None is the common one.

        Raises:
            EngineUnavailable: None can answer now.
        """
        link, routed = self._chosen(model, wanted)
        if routed is not None:
            self.on_routed(model, routed)
        return link

    def stay(
        self, model: str, link: RemoteEngine | None, wanted: Wanted | None = None
    ) -> RemoteEngine:
        """Pick the replica that a session has used before, unless it is gone or overloaded.

        Raises:
            EngineUnavailable: None can answer now.
        """
        if link is None or not self._can_stay(model, link, wanted):
            return self.choose(model, wanted)
        if wanted is not None and self._languages.get(model):
            is_own = self._pool_of(link) and self._pool_of(link) == self._own_pool(model, wanted)
            self.on_routed(model, Routed.LANGUAGE if is_own else Routed.STAYED)
        return link

    def place(
        self, model: str, link: RemoteEngine | None, wanted: Wanted | None, *, may_leave: bool
    ) -> RemoteEngine:
        """Pick the replica that computes a prompt which is still being written; count nothing.

        Args:
            link: The one that has computed what there is.
            may_leave: Whether to leave one of the common pool for that of the language, if it takes
                any.

        Raises:
            EngineUnavailable: None can answer now.
        """
        if link is None or not self._can_stay(model, link, wanted):
            return self._chosen(model, wanted)[0]
        if may_leave and not self._pool_of(link) and wanted and self._own_pool(model, wanted):
            chosen, routed = self._chosen(model, wanted)
            return chosen if routed is Routed.LANGUAGE else link
        return link

    def _chosen(self, model: str, wanted: Wanted | None) -> tuple[RemoteEngine, Routed | None]:
        links = self.up(model)
        if not links:
            raise EngineUnavailable(f"no replica of {model} can answer now; try again")
        if not self._languages.get(model):
            return self._least_busy(links), None
        pools = {pool: self._up_in(links, pool) for pool in ("", *self._languages[model])}
        pool: str | None = None
        routed: Routed | None = None
        if wanted is not None:
            busy = {name: [*map(_candidate, each)] for name, each in pools.items()}
            hot = self._hot.setdefault(model, set())
            pool, routed = pool_for(wanted, busy, busy.pop(""), hot)
            if (own := self._own_pool(model, wanted)) is not None:
                (hot.add if routed is Routed.HOT else hot.discard)(own)
        return self._least_busy(pools[pool or ""] or links), routed

    def _can_stay(self, model: str, link: RemoteEngine, wanted: Wanted | None) -> bool:
        links = self.up(model)
        if link not in links:
            return False
        if self._pool_of(link) and wanted is not None and not wanted.is_drafted:
            return False  # there it would be drafted for, or refused
        others = [_candidate(other) for other in links if other is not link]
        return not is_worth_leaving(_candidate(link), others)

    def _own_pool(self, model: str, wanted: Wanted) -> str | None:
        """The pool of a request's language, if it may be drafted for there."""
        if not wanted.is_drafted or wanted.language is None:
            return None
        return closest(wanted.language, self._languages.get(model, ()))

    def _up_in(self, links: list[RemoteEngine], pool: str) -> list[RemoteEngine]:
        return [link for link in links if self._pool_of(link) == pool]

    def _pool_of(self, link: RemoteEngine) -> str:
        return self._pools.get(link, "")

    def _least_busy(self, links: list[RemoteEngine]) -> RemoteEngine:
        self._turn += 1
        return links[least_busy([_candidate(link) for link in links], self._turn)]

    async def close(self) -> None:
        """Let go of every replica."""
        await self.continuity.close()
        await self._tasks.close()
        for links in self._links.values():
            self._leaving.update(links.values())
            links.clear()
        for link in tuple(self._leaving):
            await self._let_go(link, _STOPPED)

    def _connect(self, replica: ReplicaAddress) -> None:
        link = RemoteEngine(
            replica.address,
            self._streams,
            self._settings,
            on_lost=lambda: self._lost(replica, link),
            on_orphans=lambda streams: self.continuity.orphaned(link, streams),
        )
        self._links[replica.model][replica.replica_id] = link
        self._pools[link] = replica.pool
        self._tasks.start(self._start(link, replica), name=f"open {replica.model}")

    async def _start(self, link: RemoteEngine, replica: ReplicaAddress) -> None:
        try:
            await link.start()
        except EngineLost:
            return  # `on_lost` has been called
        _log.info("replica_up", model=replica.model, address=replica.address)
        self.continuity.opened(link, replica.model)
        self._counted.add(link)
        self._wake()

    def _lost(self, replica: ReplicaAddress, link: RemoteEngine) -> None:
        """Close a broken link, and open another while Serve still says that the replica runs."""
        links = self._links[replica.model]
        if links.get(replica.replica_id) is not link:
            return
        del links[replica.replica_id]
        self._leaving.add(link)
        self._tasks.start(self._reopen(link, replica), name=f"reopen {replica.model}")
        self._wake()

    async def _reopen(self, link: RemoteEngine, replica: ReplicaAddress) -> None:
        await self._let_go(link)
        interval_s, links = self._settings.ping_interval_s, self._links[replica.model]
        if link.was_up and await is_listening(replica.address, interval_s):
            interval_s = 0.0  # only the link was lost, and answers wait for it
        await asyncio.sleep(interval_s)
        if replica.replica_id in self._table and replica.replica_id not in links:
            self._connect(replica)

    def _is_counted(self, replica: ReplicaAddress) -> bool:
        if replica.model not in self._links:
            return True  # Serve still has what the settings no longer name
        link = self._links[replica.model].get(replica.replica_id)
        return link is not None and link.is_up and link in self._counted

    def _all_links(self) -> list[RemoteEngine]:
        return [link for links in self._links.values() for link in links.values()]

    def _up_at(self, address: str) -> list[RemoteEngine]:
        return [link for link in self._all_links() if link.is_up and link.address == address]

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that links or the table bring about."""
        while not condition():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _retire(self, link: RemoteEngine) -> None:
        """Let a replica that is leaving finish what it is answering."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETIRE_S):
                await link.idle()
        await self._let_go(link)

    async def _let_go(self, link: RemoteEngine, *why: str) -> None:
        await link.close(*why)
        self._leaving.discard(link)
        self._counted.discard(link)
        self._pools.pop(link, None)


def _candidate(link: RemoteEngine) -> Candidate:
    load, live = link.load(), link.num_live_streams
    one_more = 1 + max(live, load.running)
    speed = link.speed.at(one_more, time.monotonic())
    return Candidate(live, load.waiting, load.running, speed)
