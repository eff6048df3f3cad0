"""A gateway's links to every replica, kept in step with the table that the daemon sends."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import msgspec
import structlog

from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.stream import StreamTable
from headstart.cluster.tasks import Tasks
from headstart.configs.settings import DataPlaneSettings
from headstart.stages.errors import EngineLost, EngineUnavailable
from headstart.stages.routing import Candidate, least_busy

__all__ = ["ReplicaAddress", "ReplicaPool"]

_log = structlog.get_logger(__name__)


class ReplicaAddress(msgspec.Struct, frozen=True):
    """Where one running replica listens."""

    replica_id: str
    model: str
    address: str


_RETIRE_S = 10.0
"""Longest that a replica on its way out may finish its answers: Serve's own patience."""


class ReplicaPool:
    """Connects to replicas as they come, lets go of them as they leave, and picks one.

    Args:
        models: Names of the configured models.
        streams: Where every link mirrors its answers.
        settings: The data plane's.
        adapters: Further names that requests may give, and the model that answers to each.
    """

    def __init__(
        self,
        models: tuple[str, ...],
        streams: StreamTable,
        settings: DataPlaneSettings,
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        self.served = dict(zip(models, models, strict=True)) | dict(adapters or {})
        """Every name that requests may give, and the configured model that it leads to."""
        self._streams = streams
        self._settings = settings
        self._links: dict[str, dict[str, RemoteEngine]] = {model: {} for model in models}
        self._table: dict[str, ReplicaAddress] = {}
        self._leaving: set[RemoteEngine] = set()
        """Links that no request may choose any more, and that are not closed yet."""
        self._tasks = Tasks()
        self._turn = 0
        self._is_draining = False

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

    def num_known(self, model: str) -> int:
        """Return how many replicas of a model Serve has running."""
        return sum(replica.model == model for replica in self._table.values())

    def update(self, table: list[ReplicaAddress]) -> None:
        """Take the list of replicas that run now; connect and disconnect in the background."""
        self._table = {replica.replica_id: replica for replica in table}
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

    def choose(self, model: str) -> RemoteEngine:
        """Pick the replica for a request.

        Raises:
            EngineUnavailable: None can answer now.
        """
        links = self.up(model)
        if not links:
            raise EngineUnavailable(f"no replica of {model} can answer now; try again")
        self._turn += 1
        candidates = [Candidate(link.num_live_streams, link.load().waiting) for link in links]
        return links[least_busy(candidates, self._turn)]

    async def close(self) -> None:
        """Let go of every replica."""
        await self._tasks.close()
        for links in self._links.values():
            self._leaving.update(links.values())
            links.clear()
        for link in tuple(self._leaving):
            await self._let_go(link)

    def _connect(self, replica: ReplicaAddress) -> None:
        link = RemoteEngine(
            replica.address,
            self._streams,
            self._settings,
            on_lost=lambda: self._lost(replica, link),
        )
        self._links[replica.model][replica.replica_id] = link
        self._tasks.start(self._start(link, replica), name=f"open {replica.model}")

    async def _start(self, link: RemoteEngine, replica: ReplicaAddress) -> None:
        try:
            await link.start()
        except EngineLost:
            return  # `on_lost` has been called
        _log.info("replica_up", model=replica.model, address=replica.address)

    def _lost(self, replica: ReplicaAddress, link: RemoteEngine) -> None:
        """Close a broken link, and open another while Serve still says that the replica runs."""
        links = self._links[replica.model]
        if links.get(replica.replica_id) is not link:
            return
        del links[replica.replica_id]
        self._leaving.add(link)
        self._tasks.start(self._reopen(link, replica), name=f"reopen {replica.model}")

    async def _reopen(self, link: RemoteEngine, replica: ReplicaAddress) -> None:
        await self._let_go(link)
        await asyncio.sleep(self._settings.ping_interval_s)
        links = self._links[replica.model]
        if replica.replica_id in self._table and replica.replica_id not in links:
            self._connect(replica)

    async def _retire(self, link: RemoteEngine) -> None:
        """Let a replica that is leaving finish what it is answering."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETIRE_S):
                await link.idle()
        await self._let_go(link)

    async def _let_go(self, link: RemoteEngine) -> None:
        await link.close()
        self._leaving.discard(link)
