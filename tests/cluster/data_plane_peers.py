"""Both ends of a data plane, and raw peers that say what no sound one would."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import zmq.asyncio
from pydantic import SecretStr

from headstart.cluster import messages, secure_socket
from headstart.cluster.data_plane import DataPlaneServer
from headstart.cluster.engine import EngineRequest
from headstart.cluster.fake_engine import FakeEngine
from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.stream import StreamTable
from headstart.configs.model_settings import FakeEngineSettings, ModelSettings
from headstart.configs.settings import DataPlaneSettings
from headstart.stages.mirror import Part
from tests.support.streams import stream_table
from tests.support.waiting import soon

SETTINGS = DataPlaneSettings(secret=SecretStr("a-secret-for-tests-only"), ping_interval_s=60)
"""Silence counts for nothing here: what is noticed, is noticed by other means."""

WINDOW = 64 * 1024


@dataclass(frozen=True, slots=True)
class Replica:
    """A fake engine and its end of the data plane."""

    engine: FakeEngine
    streams: StreamTable
    server: DataPlaneServer
    address: str


@asynccontextmanager
async def replica(settings: DataPlaneSettings = SETTINGS, **speeds: Any) -> AsyncIterator[Replica]:
    """Start a replica; unthrottled, unless `speeds` says otherwise."""
    fake = FakeEngineSettings(**({"time_to_first_token_s": 0, "tokens_per_s": 0} | speeds))
    model = ModelSettings(name="fake", engine="fake", max_model_len=1 << 20, fake=fake)
    streams = stream_table()
    engine = FakeEngine(model, streams)
    server = DataPlaneServer(engine, await engine.start(), streams, settings)
    address = f"tcp://127.0.0.1:{await server.start()}"
    try:
        yield Replica(engine, streams, server, address)
    finally:
        await server.close()
        await engine.close()


@asynccontextmanager
async def gateway(
    address: str,
    settings: DataPlaneSettings = SETTINGS,
    on_lost: Callable[[], None] = lambda: None,
) -> AsyncIterator[RemoteEngine]:
    """Open a link."""
    engine = RemoteEngine(address, stream_table(), settings, on_lost)
    try:
        await soon(engine.start())
        yield engine
    finally:
        await engine.close()


def request(stream_id: str, tokens: int) -> EngineRequest:
    """Ask for so many tokens, streamed."""
    body = {"prompt": f"Tell {stream_id}.", "max_tokens": tokens, "stream": True}
    return EngineRequest(stream_id, "POST", "/v1/completions", (), msgspec.json.encode(body))


def opening(version: int = messages.PROTOCOL_VERSION, window_bytes: int = WINDOW) -> messages.Open:
    """A gateway's first message."""
    return messages.Open(version, window_bytes, sent=0.0)


def opened(
    version: int = messages.PROTOCOL_VERSION, kept: Sequence[messages.Kept] = ()
) -> messages.Opened:
    """A replica's answer to it."""
    return messages.Opened(version, "fake", 1024, 32, 0.0, 0.0, 0.0, list(kept))


class RawGateway:
    """A gateway that only does what it is told."""

    def __init__(self, socket: zmq.asyncio.Socket) -> None:
        self._socket = socket
        self.logs: dict[int, bytes] = {}
        """What has arrived of each stream."""
        self.ended: set[int] = set()
        self.received_bytes = 0

    async def send(self, *message: messages.ToReplica | bytes) -> None:
        """Send one message of one or more frames."""
        await self._socket.send_multipart(
            [part if isinstance(part, bytes) else messages.encode(part) for part in message]
        )

    async def open(self) -> None:
        """Open the link."""
        await self.send(opening())
        assert isinstance(await self.receive(), messages.Opened)

    async def receive(self) -> messages.ToGateway:
        """Take one message, noting what it adds to the streams."""
        message = messages.decode_to_gateway(await soon(self._socket.recv()))
        if isinstance(message, messages.Step):
            for part in message.parts:
                self._take(part)
        return message

    async def acknowledge(self) -> None:
        """Acknowledge all that has arrived."""
        await self.send(messages.Acknowledge(self.received_bytes))

    def _take(self, part: Part) -> None:
        log = self.logs.get(part.stream, b"")
        assert not part.data or part.offset == len(log)
        self.logs[part.stream] = log + part.data
        self.received_bytes += len(part.data)
        if part.end is not None:
            self.ended.add(part.stream)


@asynccontextmanager
async def raw_gateway(address: str) -> AsyncIterator[RawGateway]:
    """Connect, and say nothing."""
    context = zmq.asyncio.Context()
    try:
        yield RawGateway(secure_socket.connect(context, SETTINGS.secret_value, address))
    finally:
        context.destroy(linger=0)


class RawReplica:
    """A replica that only does what it is told, for one gateway."""

    def __init__(self, socket: zmq.asyncio.Socket, address: str) -> None:
        self._socket = socket
        self.address = address
        self._identity = b""

    async def send(self, message: messages.ToGateway | bytes) -> None:
        """Send one message to the gateway that spoke last."""
        data = message if isinstance(message, bytes) else messages.encode(message)
        await self._socket.send_multipart([self._identity, data])

    async def receive(self, kind: type[messages.ToReplica]) -> Any:
        """Skip to the next message of a kind."""
        while True:
            self._identity, data = await soon(self._socket.recv_multipart())
            message = messages.decode_to_replica(data)
            if isinstance(message, kind):
                return message

    async def open(self, *kept: messages.Kept, version: int = messages.PROTOCOL_VERSION) -> None:
        """Answer a gateway that opens the link."""
        await self.receive(messages.Open)
        await self.send(opened(version, kept))


@asynccontextmanager
async def raw_replica() -> AsyncIterator[RawReplica]:
    """Listen, and say nothing."""
    context = zmq.asyncio.Context()
    socket, authenticator, port = secure_socket.listen(
        context, SETTINGS.secret_value, SETTINGS.bind_host
    )
    try:
        yield RawReplica(socket, f"tcp://{SETTINGS.bind_host}:{port}")
    finally:
        authenticator.stop()
        context.destroy(linger=0)
