"""The one place that touches non-public API of Ray.

Written against Ray 2.60. `tests/contract/test_adapter.py` exercises every name used here and fails
with the name on another version; nothing else in the project imports `ray._private` or
`ray.serve._private`.
"""

import logging
import os
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

from headstart.configs.settings import RaySettings
from headstart.monitoring import logs
from headstart.stages.errors import SetupError

__all__ = [
    "ReplicaWatch",
    "connection_error",
    "kill_ray",
    "num_gpus_here",
    "start_ray",
    "start_serve",
]

_CONNECT_S = 5.0
"""Longest wait for a cluster to accept a connection."""


class ReplicaWatch:
    """Follows which replicas of a deployment Serve has running, and what they published.

    Args:
        application: Name of the Serve application.
        deployment: Name of the deployment in it.
        changed: Called on `loop` with the metadata of every running replica, by replica id.
    """

    def __init__(
        self,
        application: str,
        deployment: str,
        loop: AbstractEventLoop,
        changed: Callable[[dict[str, dict[str, Any]]], None],
    ) -> None:
        from ray.serve._private.common import DeploymentID
        from ray.serve._private.long_poll import LongPollClient, LongPollNamespace
        from ray.serve.context import _get_global_client

        def update(target: Any) -> None:
            changed(
                {
                    replica.replica_id.unique_id: dict(replica.replica_metadata)
                    for replica in target.running_replicas
                }
            )

        client = _get_global_client()
        assert client is not None
        key: Any = (LongPollNamespace.DEPLOYMENT_TARGETS, DeploymentID(deployment, application))
        self._client = LongPollClient(
            client._controller,  # noqa: SLF001
            {key: update},
            loop,
            client_id=f"headstart:{application}",
        )

    def close(self) -> None:
        """Stop following."""
        self._client.stop()


def num_gpus_here() -> int:
    """Count this machine's GPUs as a Ray started here would; what it may not see does not count."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    if manager is None:
        return 0
    found = int(manager.get_current_node_num_accelerators())
    visible = manager.get_current_process_visible_accelerator_ids()
    return found if visible is None else min(found, len(visible))


def start_ray(settings: RaySettings) -> None:
    """Start Ray here, or join the cluster at `ray.address`.

    Raises:
        SetupError: The cluster cannot be reached, or Ray cannot start.
    """
    # Read by Ray at import or at start; none has a public argument.
    os.environ.update(
        {
            "RAY_USAGE_STATS_ENABLED": "0",
            # Under `uv run` Ray would rebuild the environment for each worker.
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_SERVE_LOG_TO_STDERR": "0",
            # A killed replica cannot end its engine core, which would keep its cores and memory.
            "RAY_process_group_cleanup_enabled": "1",
            # Ray's 15 would let every other process of the machine go before the engine.
            "RAY_worker_niceness": "0",
        }
    )
    import ray

    # What Ray tells at lower levels is about threads and tokens that are none of the user's.
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if settings.address is None:
        options |= {
            "address": "local",
            "include_dashboard": settings.include_dashboard,
            "object_store_memory": settings.object_store_memory_mib << 20,
            "_metrics_export_port": settings.metrics_export_port or None,
        }
        if settings.num_cpus is not None:
            options["num_cpus"] = settings.num_cpus
    else:
        options["address"] = settings.address
        # Ray would go on trying for minutes.
        if (error := connection_error(settings.address)) is not None:
            raise SetupError(
                f"no Ray cluster answers at {settings.address}: {error}; start it, or set "
                "ray.address to the host and port that `ray start --head` gave",
                param="ray.address",
            ) from error
        _use_token()
    try:
        ray.init(**options)
    except Exception as error:
        raise SetupError(_why(settings.address, error), param="ray.address") from error
    logs.adopt("ray")


def connection_error(address: str) -> OSError | None:
    """Return why nothing can be connected to at a cluster's address now; None where it can.

    Args:
        address: `host:port`; `auto` is Ray's to find.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return None
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except OSError as error:
        return error
    return None


def _use_token() -> None:
    """Show the user's token, if there is one, to the cluster that is joined.

    As Ray does with a cluster that it finds by itself, but not with one whose address it is given.
    A cluster that asks for none lets one with a token in; `RAY_AUTH_MODE` has the last word.
    """
    from ray._private.authentication import authentication_token_setup as setup

    setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _why(address: str | None, error: Exception) -> str:
    if address is None:
        return f"Ray cannot start here: {error}"
    return (
        f"Ray cannot join the cluster at {address}: {error}; if it runs, it may want its token: "
        "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or put it in ~/.ray/auth_token"
    )


def start_serve() -> None:
    """Start Ray Serve without its proxy, or join the one that the cluster has.

    Raises:
        SetupError: It cannot start.
    """
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
    except Exception as error:
        raise SetupError(f"Ray Serve cannot start: {error}") from error
    logs.adopt("ray")


def kill_ray() -> None:
    """End the processes of a Ray started here while another thread is using it. Blocks.

    The raylet gets to end its children: they would notice its sudden death, but only after 15 s.
    """
    from ray._private import worker

    if (node := worker._global_node) is not None:  # noqa: SLF001
        node.kill_all_processes(check_alive=False, allow_graceful=True)
