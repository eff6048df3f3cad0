"""The server's end of a real link: gateway processes as the daemon starts them, and fake engines.

A process of its own, which is spoken to in lines of JSON; when its input ends, everything that it
has started ends. One process holds the engines and notes when each token was made.
"""

import asyncio
import os
import signal
import socket
import time
import urllib.request
from base64 import b64decode
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

import msgspec
import psutil
import uvloop

from headstart.benchmarks.child import first_line, lines, say
from headstart.benchmarks.frame_handle import stream_table
from headstart.benchmarks.network_spaces import enter
from headstart.benchmarks.socket_orders import Door, Kill, Made, Memory, Open, Used, When
from headstart.cluster.data_plane import DataPlaneServer
from headstart.cluster.engine import EngineRequest
from headstart.cluster.fake_engine import FakeEngine
from headstart.cluster.replica_pool import ReplicaAddress
from headstart.cluster.stream import Stream
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.monitoring import logs
from headstart.pipeline.gateway_child import GatewayChild
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark

__all__ = ["serve"]

READY_S = 60.0
LOOK_S = 0.05


def serve() -> None:
    """Be the server's end."""
    order = msgspec.json.decode(first_line(), type=Open)
    if order.space is not None:
        enter(order.space)
    settings = [Settings.from_child(line) for line in order.settings]
    logs.set_up("bench", level=settings[0].logging.level, form=settings[0].logging.format)
    uvloop.run(_serve(order.host, settings))


class _Notes:
    """When a stream grew. A `StreamListener`."""

    def __init__(self, stream: Stream) -> None:
        self._log = stream.log
        self._grown: list[tuple[int, float]] = []

    def appended(self) -> None:
        self._grown.append((self._log.end, time.monotonic()))

    def marked(self, mark: Mark, at: float) -> None:
        pass

    def ended(self, end: StreamEnd) -> None:
        pass

    def made(self) -> Made:
        """Of the frames that hold tokens, one each."""
        texts = {cursor: frame.text for cursor, frame in self._log.frames(0) if frame.tokens}
        found = [(at, texts[cursor]) for cursor, at in self._grown if cursor in texts]
        return Made([at for at, _ in found], [text for _, text in found])


class _Engine(FakeEngine):
    """Takes notes of every answer until they are asked for."""

    def __init__(self, model: ModelSettings, settings: Settings) -> None:
        self.streams = stream_table(settings)
        super().__init__(model, self.streams)
        self.notes: dict[str, _Notes] = {}

    def serve(self, request: EngineRequest, *, logged: bytes = b"") -> Stream:
        stream = super().serve(request, logged=logged)
        notes = self.notes[stream.id] = _Notes(stream)
        stream.listen(notes)
        return stream


class _Gateway:
    """A gateway's process, and another whenever it dies."""

    def __init__(self, settings: Settings, host: str, replicas: list[ReplicaAddress]) -> None:
        self._listener = socket.create_server((host, 0))
        self._host = host
        self._child = GatewayChild(settings, self._listener)
        self._child.update(replicas)
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._running = asyncio.ensure_future(self._child.keep_alive())
        await self._child.ready()

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
        await self._child.close()

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._child.pid)

    async def door(self) -> Door:
        """Ask it for its address, until it answers."""
        port = self._listener.getsockname()[1]
        url = f"http://{self._host}:{port}"
        async with asyncio.timeout(READY_S):
            while not await asyncio.to_thread(_get, f"{url}/readyz"):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
        offer = msgspec.json.decode(await asyncio.to_thread(_get, f"{url}/v1/transport"))
        hashes = [b64decode(one["value"]).hex() for one in offer["certificate_hashes"]]
        return Door(offer["host"], offer["port"], hashes)

    async def kill(self) -> Door:
        """As the kernel would, and wait for the next."""
        killed = self._child.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        # Not with `psutil`: who waits for it there takes its end away from the event loop.
        async with asyncio.timeout(READY_S):
            while self._child.pid == killed:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
        return await self.door()

    def used(self) -> Used:
        times = self.process.cpu_times()
        return Used(self.process.memory_full_info().uss, times.user + times.system)


async def _serve(host: str, settings: Sequence[Settings]) -> None:
    async with AsyncExitStack() as stack:
        engines: list[_Engine] = []
        replicas: list[ReplicaAddress] = []
        for each in settings[0].models:
            engine = _Engine(each, settings[0])
            server = DataPlaneServer(
                engine, await engine.start(), engine.streams, settings[0].data_plane
            )
            stack.push_async_callback(engine.close)
            address = f"tcp://{settings[0].data_plane.bind_host}:{await server.start()}"
            stack.push_async_callback(server.close)
            engines.append(engine)
            replicas.append(ReplicaAddress(f"bench-{each.name}", each.name, address))
        gateways: list[_Gateway] = []
        for own in settings:
            gateway = _Gateway(own, host, replicas)
            stack.push_async_callback(gateway.close)
            gateways.append(gateway)
        await asyncio.gather(*(gateway.start() for gateway in gateways))
        say([await gateway.door() for gateway in gateways])
        stack.push_async_callback(_stop, asyncio.ensure_future(_expire(engines)))
        await _obey(engines, gateways)


async def _obey(engines: Sequence[_Engine], gateways: Sequence[_Gateway]) -> None:
    async for line in lines():
        order = msgspec.json.decode(line, type=When | Memory | Kill)
        if isinstance(order, When):
            notes = {key: value for engine in engines for key, value in engine.notes.items()}
            say([notes[one].made() if one in notes else Made([]) for one in order.ids])
            for engine in engines:
                engine.notes.clear()
        elif isinstance(order, Memory):
            for engine in engines:
                engine.notes.clear()  # whoever weighs gateways wants no notes
            say([gateway.used() for gateway in gateways])
        else:
            say(await gateways[order.gateway].kill())


async def _expire(engines: Sequence[_Engine]) -> None:
    while True:
        await asyncio.sleep(1.0)
        for engine in engines:
            engine.streams.expire()


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _get(url: str) -> bytes:
    """The body of a 200; empty for anything else."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own
            return bytes(answer.read()) if answer.status == 200 else b""
    except OSError:
        return b""
