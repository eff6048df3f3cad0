"""What stands for a gateway: a reader on the data plane, and one on Serve handles.

Each starts the processes that answer it. The fake engine behind both is the same.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from itertools import count
from typing import Any

import msgspec

from headstart.benchmarks.child import command
from headstart.benchmarks.frame_handle import HandleReplica, stream_table
from headstart.benchmarks.frame_times import Ask, Delivery, Receipt, delivery_of
from headstart.cluster import ray_adapter, serve_app
from headstart.cluster.engine import EngineRequest
from headstart.cluster.replica_pool import ReplicaAddress, ReplicaPool
from headstart.cluster.stream import Stream
from headstart.configs.settings import Settings
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import ClockOffset, Mark
from headstart.stages.token_log import TokenLog

__all__ = ["DataPlaneReader", "HandleReader", "Reader"]

_numbers = count()


class Reader(ABC):
    """Fetches answers of fake engines."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    async def start(self) -> None:
        """Start the engines' processes and reach them."""

    @abstractmethod
    async def close(self) -> None:
        """Stop them."""

    @abstractmethod
    async def fetch(self, model: str, request: EngineRequest) -> Receipt:
        """Fetch one whole answer."""

    async def deliver(self, ask: Ask) -> Delivery:
        """Fetch what is asked, all answers at once."""
        fetching = [self.fetch(ask.model, _request(ask)) for _ in range(ask.num_streams)]
        return delivery_of(await asyncio.gather(*fetching))


class DataPlaneReader(Reader):
    """Reads as the gateway does: a `ReplicaPool`, and a listener where a client would be."""

    async def start(self) -> None:
        self._streams = stream_table(self.settings)
        names = tuple(model.name for model in self.settings.models)
        self._pool = ReplicaPool(names, self._streams, self.settings.data_plane)
        self._replicas = [await self._spawn(name) for name in names]
        addresses = []
        for name, replica in zip(names, self._replicas, strict=True):
            assert replica.stdout is not None
            address = (await replica.stdout.readline()).decode().strip()
            addresses.append(ReplicaAddress(f"bench-{name}", name, address))
        self._pool.update(addresses)
        async with asyncio.timeout(60):
            while not self._pool.is_ready:  # noqa: ASYNC110 - a pool tells nobody
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        await self._pool.close()
        for replica in self._replicas:
            assert replica.stdin is not None
            replica.stdin.close()
            await replica.wait()

    async def fetch(self, model: str, request: EngineRequest) -> Receipt:
        asked_at = time.monotonic()
        link = self._pool.choose(model)
        link.clock = _ONE_CLOCK
        stream = link.serve(request)
        receipt = Receipt(asked_at, stream.log)
        stream.listen(_Notes(stream, receipt))
        await stream.finished()
        if stream.end is None or stream.end.failure is not None:
            raise RuntimeError(f"an answer failed: {stream.end}")
        receipt.first_sampled_at = stream.clock.get(Mark.FIRST_TOKEN)
        self._streams.drop(stream.id)
        return receipt

    async def _spawn(self, name: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        argv = command("headstart.benchmarks.frame_children", "serve_replica")
        replica = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
        assert replica.stdin is not None
        replica.stdin.write(f"{self.settings.to_child()}\n{name}\n".encode())
        return replica


class HandleReader(Reader):
    """Reads items of Serve handles' streams, as a proxy on Serve would."""

    async def start(self) -> None:
        await asyncio.to_thread(self._run)

    async def close(self) -> None:
        await asyncio.to_thread(serve_app.stop, self.settings)

    async def fetch(self, model: str, request: EngineRequest) -> Receipt:
        log = TokenLog(self.settings.streams.max_stream_bytes)
        receipt = Receipt(time.monotonic(), log)
        method = self._handles[model].options(stream=True).frames
        async for item in method.remote(msgspec.msgpack.encode(request)):
            at = time.monotonic()
            if isinstance(item, float):
                receipt.first_sampled_at = item
            else:
                log.extend(item)
                receipt.arrivals.append((log.end, at))
        return receipt

    def _run(self) -> None:
        from ray import serve

        ray_adapter.start_ray(self.settings.ray)
        ray_adapter.start_serve()
        deployment = serve.deployment(
            ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1_000_000
        )(HandleReplica)
        own = self.settings.to_child()
        self._handles: dict[str, Any] = {
            model.name: serve.run(
                deployment.bind(own, model.name), name=model.name, route_prefix=None
            )
            for model in self.settings.models
        }


class _OneClock(ClockOffset):
    """Both ends read the machine's one monotonic clock: a measured offset only adds error."""

    def to_local(self, remote: float) -> float:
        return remote


_ONE_CLOCK = _OneClock()


class _Notes:
    """Notes when a stream grew."""

    def __init__(self, stream: Stream, receipt: Receipt) -> None:
        self._log = stream.log
        self._arrivals = receipt.arrivals

    def appended(self) -> None:
        self._arrivals.append((self._log.end, time.monotonic()))

    def marked(self, _mark: Mark, _at: float) -> None:
        pass

    def ended(self, _end: StreamEnd) -> None:
        pass


def _request(ask: Ask) -> EngineRequest:
    number = next(_numbers)
    prompt = f"Answer number {number}."
    body = {
        "model": ask.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": ask.num_tokens,
        "stream": True,
    }
    headers = (("content-type", "application/json"),)
    path = "/v1/chat/completions"
    return EngineRequest(f"bench-{number}", "POST", path, headers, msgspec.json.encode(body))
