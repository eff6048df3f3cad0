"""What all live prompts share: who answers, where they are computed, how much they may take."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.replica_pool import ReplicaPool
from headstart.cluster.tasks import Tasks
from headstart.configs.live import LiveSettings
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.access import Access, Caller
from headstart.pipeline.answering import Answering
from headstart.stages.language import is_loaded, load
from headstart.stages.rate_limit import Bucket
from headstart.stages.routing import Wanted
from headstart.stages.shared_room import Share, SharedRoom
from headstart.stages.warm_budget import PrefillSpeed, TokenBudget

__all__ = ["LiveReplicas", "LiveServices", "LiveShares"]


class LiveReplicas:
    """As `Replicas`: where prompts are computed, and thoughts made.

    Args:
        pool: The replicas.
        slice_s: How long a slice shall take.
        forget: Drops the log of a stream that has ended.
    """

    def __init__(self, pool: ReplicaPool, slice_s: float, forget: Callable[[str], None]) -> None:
        self._pool = pool
        self.forget = forget
        self._slice_s = slice_s
        self._speeds: WeakKeyDictionary[RemoteEngine, PrefillSpeed] = WeakKeyDictionary()

    def stay(
        self,
        model: str,
        link: RemoteEngine | None,
        wanted: Wanted | None = None,
        *,
        may_leave: bool = False,
    ) -> RemoteEngine:
        """Pick the replica for a session; see `ReplicaPool.place`."""
        return self._pool.place(self._pool.served[model], link, wanted, may_leave=may_leave)

    def speed(self, link: RemoteEngine) -> PrefillSpeed:
        """Return how fast a replica prefills, as far as it is known."""
        if link not in self._speeds:
            self._speeds[link] = PrefillSpeed(link.info.block_size, self._slice_s)
        return self._speeds[link]


class LiveShares:
    """What there is for all live prompts together, and for those of each key.

    Args:
        settings: How much there is for all.
        access: How much there is for a key.
    """

    def __init__(self, settings: LiveSettings, access: Access) -> None:
        self.chars = SharedRoom(settings.max_total_chars)
        self._access = access
        self._max_renders = settings.max_renders
        self._renders: dict[str, asyncio.Semaphore] = {}
        """Of each key."""
        self._warm = Bucket(settings.tokens_per_minute)
        self._thoughts = Bucket(settings.thinking.tokens_per_minute)

    def room(self, caller: Caller) -> Share:
        """Return what a session holds of the code points of all."""
        return Share(self.chars, caller.key_id)

    def renders(self, caller: Caller) -> asyncio.Semaphore:
        """Return what lets a key's prompts be rendered, a few at once."""
        return self._renders.setdefault(caller.key_id, asyncio.Semaphore(self._max_renders))

    def warm_tokens(self, caller: Caller) -> TokenBudget:
        """Return the budget of what is computed ahead."""
        return TokenBudget(self._warm, *self._access.warm_buckets(caller))

    def thought_tokens(self, caller: Caller) -> TokenBudget:
        """Return the budget of what is thought."""
        return TokenBudget(self._thoughts, *self._access.thinking_buckets(caller))


@dataclass(frozen=True, slots=True)
class LiveServices:
    """What a session is made with, beside whose it is."""

    answering: Answering
    """Takes committed prompts."""
    access: Access
    """Says what a key may."""
    metrics: Metrics
    """Told of everything."""
    settings: LiveSettings
    replicas: LiveReplicas
    shares: LiveShares
    loading: Tasks = field(default_factory=Tasks)
    """Loads the model of languages."""

    def load_languages(self) -> None:
        """Have the model of languages loaded, once, whoever asks for it meanwhile."""
        if not is_loaded() and not len(self.loading):
            self.loading.start(asyncio.to_thread(load), name="load languages")
