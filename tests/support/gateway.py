"""A whole gateway in this process: real HTTP on loopback, real data plane, fake engines.

    async with serving(speeds(tokens_per_s=50)) as gateway:
        answer = await gateway.client.post("/v1/completions", json={"prompt": "a"})

Everything shares the test's event loop, so a test may look into any of it.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import SecretStr

from headstart.cluster.data_plane import DataPlaneServer
from headstart.cluster.engine import EngineRequest
from headstart.cluster.fake_engine import FakeEngine
from headstart.cluster.replica_pool import ReplicaAddress, ReplicaPool
from headstart.cluster.stream import Stream, StreamTable
from headstart.configs.access import AccessSettings
from headstart.configs.live import LiveSettings
from headstart.configs.model_settings import FakeEngineSettings, ModelSettings
from headstart.configs.serving import DataPlaneSettings, GatewaySettings, QuicSettings
from headstart.monitoring.labels import Outcome
from headstart.monitoring.metrics import Metrics
from headstart.pipeline import app
from headstart.pipeline.access import Access
from headstart.pipeline.certificates import wall_clock
from headstart.pipeline.gateway import http_server
from headstart.pipeline.live_sessions import LiveSessions
from headstart.pipeline.quic_endpoint import QuicEndpoint
from headstart.stages.retention import Retention
from headstart.stages.shared_room import SharedRoom
from tests.monitoring.exposition import Exposition
from tests.support.waiting import eventually, soon

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "DATA_PLANE",
    "Gateway",
    "Replica",
    "saying",
    "serving",
    "speeds",
    "table",
]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
DATA_PLANE = DataPlaneSettings(secret=SecretStr("a-secret-for-tests-only"), ping_interval_s=0.2)
CONTEXT = 1 << 18


def speeds(name: str = "fake", **fake: Any) -> ModelSettings:
    """A fake model; quick, unless `fake` says otherwise."""
    quick = {"time_to_first_token_s": 0.005, "tokens_per_s": 400.0, "answer_tokens": 8}
    return ModelSettings(
        name=name, engine="fake", max_model_len=CONTEXT, fake=FakeEngineSettings(**quick | fake)
    )


def table(
    ttl_s: float = 300.0,
    max_bytes: int = 1 << 28,
    max_stream_bytes: int = 1 << 26,
    now: Callable[[], float] = time.monotonic,
) -> StreamTable:
    """An empty stream table."""
    return StreamTable(Retention(ttl_s, max_bytes), max_stream_bytes, now)


def saying(text: str = "Name three colours.", **fields: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **fields}


class _Engine(FakeEngine):
    """Remembers what reached it."""

    def __init__(self, model: ModelSettings, streams: StreamTable) -> None:
        super().__init__(model, streams)
        self.requests: list[EngineRequest] = []

    def serve(self, request: EngineRequest, *, logged: bytes = b"") -> Stream:
        self.requests.append(request)
        return super().serve(request, logged=logged)


@dataclass(frozen=True, slots=True)
class Replica:
    """A fake engine and its end of the data plane."""

    model: ModelSettings
    engine: _Engine
    server: DataPlaneServer
    port: int
    pool: str = ""

    @property
    def requests(self) -> list[EngineRequest]:
        """What reached the engine, the oldest first."""
        return self.engine.requests

    async def die(self) -> None:
        """Close every connection without a word, as the kernel does for a dead process."""
        await self.server.close()
        await self.engine.close()

    async def idle(self, within_s: float) -> None:
        """Wait until the engine computes nothing."""
        await eventually(lambda: self.engine.load().running == 0, within_s)


@dataclass
class Gateway:
    """A running gateway and the objects it is made of."""

    url: str
    client: httpx.AsyncClient
    pool: ReplicaPool
    streams: StreamTable
    metrics: Metrics
    live_prompts: LiveSessions
    bodies: SharedRoom
    replicas: list[Replica] = field(default_factory=list)
    quic: QuicEndpoint | None = None

    @property
    def replica(self) -> Replica:
        """The only replica."""
        (replica,) = self.replicas
        return replica

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        assert url.port is not None
        return url.host, url.port

    @property
    def live(self) -> Stream:
        """The only live stream."""
        (stream,) = self.streams.live
        return stream

    def exposition(self) -> Exposition:
        """Everything measured so far."""
        return Exposition.of(self.metrics._series._registry.collect())

    def count(self, outcome: Outcome) -> float:
        """Requests that have ended so, of whatever route and model."""
        return sum(
            value
            for (name, labels), value in self.exposition().values.items()
            if name == "headstart_requests_total" and ("outcome", outcome) in labels
        )

    @property
    def table(self) -> list[ReplicaAddress]:
        """What Serve would say of the replicas."""
        return self._table([replica.port for replica in self.replicas])

    def _table(self, ports: Sequence[int]) -> list[ReplicaAddress]:
        return [
            ReplicaAddress(str(number), replica.model.name, f"tcp://127.0.0.1:{port}", replica.pool)
            for number, (replica, port) in enumerate(zip(self.replicas, ports, strict=True))
        ]

    async def connect(self, *ports: int) -> None:
        """Let the gateway know of the replicas, at these ports instead of their own if given."""
        self.pool.update(self._table(ports) if ports else self.table)
        await eventually(
            lambda: all(
                len(self.pool.up(model)) == self.pool.num_known(model)
                and all(link.clock.is_known for link in self.pool.up(model))
                for model in self.pool.models
            )
        )

    async def stream(self, path: str = CHAT, **options: Any) -> bytes:
        """Post a request, by default a streamed chat, and return the whole body."""
        options.setdefault("json", saying(stream=True))
        answer = await soon(self.client.post(path, **options))
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.content

    async def unused(self) -> None:
        """Wait until no answer is being made and no request is in flight."""
        await eventually(lambda: not self.streams.live and not self.num_in_flight)

    @property
    def num_in_flight(self) -> float:
        """Requests that the gauges say are in some stage."""
        values = self.exposition().values
        return sum(value for (name, _), value in values.items() if "stage_inflight" in name)


@asynccontextmanager
async def serving(
    *models: ModelSettings,
    settings: GatewaySettings | None = None,
    access: AccessSettings | None = None,
    now: Callable[[], float] = time.monotonic,
    streams: StreamTable | None = None,
    pool: Callable[..., ReplicaPool] = ReplicaPool,
    is_connected: bool = True,
    log_bytes: int = 1 << 26,
    data_plane: DataPlaneSettings = DATA_PLANE,
    quic: QuicSettings | None = None,
    offered: Callable[[dict[str, Any]], dict[str, Any]] = lambda offer: offer,
    live: LiveSettings | None = None,
    drafting: ModelSettings | None = None,
    weights_default: str | None = None,
) -> AsyncIterator[Gateway]:
    """Run a gateway with one replica for each of `models`, by default one quick one.

    Args:
        settings: Limits of the gateway.
        access: Its keys; none if None.
        now: The clock of their limits, and of live prompts' expiry.
        streams: Where it mirrors answers.
        pool: Makes its replica pool.
        is_connected: Whether it knows its replicas from the start.
        log_bytes: Most that a replica may write for one answer.
        data_plane: The gateway's patience.
        quic: Serves QUIC too, on any port.
        offered: What clients are told of that, such as a relay's port.
        live: Limits of live prompts.
        drafting: What the gateway believes to serve, a replica of `models` for each of its pools.
        weights_default: How the replicas draft by default where `drafting` leaves that to weights.
    """
    models = models or (speeds(),)
    names = tuple(dict.fromkeys(model.name for model in models))
    streams = table() if streams is None else streams
    settings = settings or GatewaySettings(shutdown_grace_s=0)
    async with AsyncExitStack() as stack:
        pools = ["" for _ in models]
        links = pool(names, streams, data_plane)
        if drafting is not None:
            pools = [each.pool for each in drafting.pools]
            links = ReplicaPool(names, streams, data_plane, None, {drafting.name: pools[1:]})
        metrics = Metrics(names, "0")
        keys = Access(access or AccessSettings(), DATA_PLANE.secret_value, now)
        endpoint = None
        if quic is not None:
            endpoint = QuicEndpoint(quic, settings, metrics.transport, wall_clock)
            stack.push_async_callback(endpoint.close)

        def describe(asked: str) -> dict[str, Any] | None:
            offer = None if endpoint is None else endpoint.describe(asked)
            return None if offer is None else offered(offer)

        served = () if drafting is None else (drafting,)
        asgi = app.build(links, streams, metrics, settings, keys, describe, live, now, served)
        sessions: LiveSessions = asgi.state.live
        if endpoint is not None:
            await endpoint.start(asgi, 0)
        url = await stack.enter_async_context(_listening(asgi, settings, metrics))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, timeout=240, trust_env=False, verify=False)
        )
        bodies: SharedRoom = asgi.state.bodies
        gateway = Gateway(url, client, links, streams, metrics, sessions, bodies, quic=endpoint)
        for model, each in zip(models, pools, strict=True):
            default = weights_default
            if drafting is not None and drafting.speculation is not None:
                default = drafting.speculation.default or weights_default
            replica = await stack.enter_async_context(_replica(model, log_bytes, each, default))
            gateway.replicas.append(replica)
        stack.push_async_callback(links.close)
        stack.push_async_callback(sessions.close)
        if is_connected:
            await gateway.connect()
        yield gateway


@asynccontextmanager
async def _listening(asgi: Any, settings: GatewaySettings, metrics: Metrics) -> AsyncIterator[str]:
    server = http_server(asgi, settings, metrics)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Little room in the kernel: a reader that does not read is noticed early.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        running = asyncio.ensure_future(server.serve([listener]))
        try:
            await eventually(lambda: server.started)
            scheme = "http" if settings.tls_cert_file is None else "https"
            yield "{}://{}:{}".format(scheme, *listener.getsockname())
        finally:
            server.should_exit = True
            await running


@asynccontextmanager
async def _replica(
    model: ModelSettings, log_bytes: int, pool: str, speculation: str | None
) -> AsyncIterator[Replica]:
    streams = table(max_stream_bytes=log_bytes)
    engine = _Engine(model, streams)
    info = replace(await engine.start(), speculation=speculation)
    server = DataPlaneServer(engine, info, streams, DATA_PLANE)
    try:
        yield Replica(model, engine, server, await server.start(), pool)
    finally:
        await server.close()
        await engine.close()
