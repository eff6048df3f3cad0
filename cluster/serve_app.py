"""What Ray Serve is asked for: one application per pool of a model, and news of its replicas."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ray
from ray import serve

from headstart.cluster import placement, ray_adapter
from headstart.cluster.replica import Replica
from headstart.cluster.replica_pool import ReplicaAddress
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.stages.errors import SetupError

__all__ = ["ReplicaTable", "build", "check_room", "run", "stop"]

_DEPLOYMENT = "replica"
"""Name of the one deployment in each application."""


def build(settings: Settings, model: ModelSettings) -> serve.Application:
    """Build the Serve application of one pool of a model."""
    deployment = serve.deployment(
        name=_DEPLOYMENT,
        num_replicas=model.replicas,
        ray_actor_options=placement.actor_options(model),
        # Requests come by the data plane; handles carry none, so Serve's own limit must not bite.
        max_ongoing_requests=1_000_000,
        # Each attempt loads the model again; what fails twice fails for good.
        max_constructor_retry_count=2,
        health_check_period_s=1,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=10,
    )(Replica)
    # Only what a replica needs: to Serve, another argument is another version to roll out.
    return deployment.bind(settings.for_replica(model).to_child())


def check_room(settings: Settings) -> None:
    """Refuse what the cluster that has been joined or started could never hold.

    Raises:
        SetupError: It lacks GPUs or CPUs; the message has the figures and the fix.
    """
    address = settings.ray.address
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    placement.check_room(
        settings.pools,
        [node["Resources"] for node in nodes if node["Alive"]],
        "the Ray started here" if address is None else f"the Ray cluster at {address}",
        (placement.GPU, placement.CPU),
    )


def run(settings: Settings) -> None:
    """Ask for every model's replicas and wait until all are healthy. Blocks.

    Raises:
        SetupError: A replica cannot start.
    """
    targets = [
        serve.RunTarget(
            build(settings, pool),
            name=_application(pool.name, pool.pool),
            route_prefix=None,
        )
        for pool in settings.pools
    ]
    try:
        serve.run_many(targets)
    except Exception as error:
        raise SetupError(f"a replica cannot start: {_reason() or error}") from error


def stop(settings: Settings) -> None:
    """Stop every replica, and Ray too if it was started here. Blocks.

    Serve stays: in a cluster that was joined others may use it, and Ray takes along its own.
    """
    if not ray.is_initialized():
        return
    try:
        for pool in settings.pools:
            serve.delete(_application(pool.name, pool.pool))
    finally:
        ray.shutdown()


class ReplicaTable:
    """Keeps the list of running replicas of every model.

    Args:
        pools: Names of the configured models and of their pools; their applications have been
            asked for.
        changed: Called on the running event loop with the whole list whenever it changes.
    """

    def __init__(
        self,
        pools: Sequence[tuple[str, str]],
        changed: Callable[[list[ReplicaAddress]], None],
    ) -> None:
        self._changed = changed
        self._replicas: dict[tuple[str, str], list[ReplicaAddress]] = {}
        loop = asyncio.get_running_loop()
        self._watches = [
            ray_adapter.ReplicaWatch(
                _application(*pool), _DEPLOYMENT, loop, partial(self._update, pool)
            )
            for pool in pools
        ]

    @property
    def replicas(self) -> list[ReplicaAddress]:
        """Every replica that Serve counts as running."""
        return [replica for replicas in self._replicas.values() for replica in replicas]

    def close(self) -> None:
        """Stop following."""
        for watch in self._watches:
            watch.close()

    def _update(self, pool: tuple[str, str], found: Mapping[str, Mapping[str, Any]]) -> None:
        model, language = pool
        self._replicas[pool] = [
            ReplicaAddress(replica_id, model, metadata["address"], language)
            for replica_id, metadata in found.items()
            if "address" in metadata
        ]
        self._changed(self.replicas)


def _application(model: str, pool: str) -> str:
    # No model's name has a plus sign.
    return f"headstart-{model}+{pool}" if pool else f"headstart-{model}"


def _reason() -> str:
    """What Serve says of the first application that failed."""
    for application in serve.status().applications.values():
        for deployment in application.deployments.values():
            if reason := _last_error(deployment.message):
                return reason
    return ""


def _last_error(traceback: str) -> str:
    """What was raised, by the last line of a traceback, without the path of the class."""
    lines = [line.strip() for line in traceback.splitlines() if "Error" in line]
    if not lines:
        return ""
    name, colon, message = lines[-1].partition(": ")
    name = name.rpartition(".")[2]
    return message if name == SetupError.__name__ else f"{name}{colon}{message}"
