"""The Ray Serve deployment: one engine and its end of the data plane, in one actor.

Serve places it, watches its health and restarts it. Tokens do not pass through Serve: the replica
listens on the data plane and publishes where, as metadata that Serve hands to whoever asks.
"""

import asyncio
import os
import time
from ipaddress import ip_address
from typing import Any

import ray
from ray import serve

from headstart.cluster import launch_adapter
from headstart.cluster.data_plane import DataPlaneServer
from headstart.cluster.engine import Engine
from headstart.cluster.fake_engine import FakeEngine
from headstart.cluster.prepared_model import prepared
from headstart.cluster.process_memory import keep_loaded
from headstart.cluster.stream import StreamTable
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import ReplicaSettings
from headstart.monitoring import logs
from headstart.stages.retention import Retention

__all__ = ["Replica"]


class Replica:
    """Serves one model's requests in one process.

    Args:
        settings: A `ReplicaSettings` as its `to_child` wrote it.
    """

    def __init__(self, settings: str) -> None:
        self._settings = ReplicaSettings.from_child(settings)
        logging = self._settings.logging
        logs.set_up("replica", level=logging.level, form=logging.format)
        logs.adopt("ray")
        self._model = self._settings.model
        streams = self._settings.streams
        self._streams = StreamTable(
            Retention(streams.finished_ttl_s, streams.max_total_bytes),
            streams.max_stream_bytes,
            time.monotonic,
            streams.max_request_bytes,
        )
        self._engine: Engine | None = None
        self._data_plane: DataPlaneServer | None = None
        self._address = ""

    async def record_replica_metadata(self) -> dict[str, Any]:
        """Start, and tell Serve where the data plane is.

        Serve calls this once, before it counts the replica as running, on the event loop that
        everything else will run on.

        Raises:
            SetupError: The engine cannot start; Serve shows the message in its status.
        """
        engine = self._engine = await asyncio.to_thread(self._build_engine)
        info = await engine.start()
        data_plane = self._settings.data_plane
        self._data_plane = DataPlaneServer(engine, info, self._streams, data_plane)
        port = await self._data_plane.start()
        host = data_plane.bind_host
        if ip_address(host).is_unspecified:
            host = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        self._address = f"tcp://{host}:{port}"
        keep_loaded()
        return {"model": self._model.name, "address": self._address}

    async def check_health(self) -> None:
        """Raise if the engine is dead or deaf, so that Serve replaces this replica."""
        if self._engine is not None:
            self._engine.check_health()
        if self._data_plane is not None:
            self._data_plane.check_health()

    async def __del__(self) -> None:
        """Close everything; Serve awaits this when it stops the replica."""
        if self._data_plane is not None:
            await self._data_plane.close()
        if self._engine is not None:
            await self._engine.close()

    def _build_engine(self) -> Engine:
        model = self._model
        if model.engine == "fake":
            return FakeEngine(model, self._streams)
        # Before vLLM is imported: it reads some of these only once, and its children inherit them.
        # Before the weights are sought, too, which may bring torch.
        os.environ.update(launch_adapter.engine_environment(model, self._cores(model)))
        # Here and not only in the daemon: this replica may be on another machine.
        model, path = prepared(model, self._settings.cache_dir)
        os.environ.update(launch_adapter.engine_environment(model, self._cores(model)))
        from headstart.cluster.vllm_engine import VllmEngine

        return VllmEngine(model, str(path), self._streams, launch_adapter.ray_stat_loggers())

    @staticmethod
    def _cores(model: ModelSettings) -> str | None:
        if model.cores is None:
            return None
        # A restarted replica takes the rank, and so the cores, of the one it replaces.
        return model.cores[serve.get_replica_context().rank.rank]
