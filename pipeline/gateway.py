"""The gateway process: owns the HTTP socket, holds a link to every replica, runs no model.

The daemon starts it, hands it the listening socket and talks to it over standard input, a JSON
object a line: first the settings, then the table of replicas whenever it changes. The gateway
says one thing back, a line on standard output once it can take a request to every model. When its
input ends, it lets running answers finish and stops.
"""

import asyncio
import contextlib
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from headstart.cluster.process_memory import keep_loaded
from headstart.cluster.replica_pool import ReplicaPool
from headstart.cluster.stream import StreamTable
from headstart.configs.settings import GatewaySettings, Settings
from headstart.monitoring import logs
from headstart.monitoring.metrics import Metrics
from headstart.pipeline import app
from headstart.pipeline.access import Access
from headstart.pipeline.connection import Connection
from headstart.pipeline.gateway_child import Hello, Table
from headstart.pipeline.live_sessions import LiveSessions
from headstart.pipeline.socket_connection import SocketConnection
from headstart.stages.retention import Retention

if TYPE_CHECKING:
    from headstart.pipeline.quic_endpoint import QuicEndpoint

__all__ = ["drain", "http_server", "make_room", "run_child"]

_log = structlog.get_logger(__name__)

_TICK_S = 0.25


def make_room(wanted: int) -> None:
    """Let the process hold so many files, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            _log.warning("too_few_files", allowed=allowed, wanted=wanted)


def run_child() -> int:
    """Be the gateway process until standard input ends or a signal comes."""
    # Unbuffered: a reader that looks ahead would swallow the lines after the first.
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as lines:
        hello = msgspec.json.decode(lines.readline(), type=Hello)
    settings = Settings.from_child(hello.settings)
    logs.set_up("gateway", level=settings.logging.level, form=settings.logging.format)
    make_room(settings.gateway.num_files)
    uvloop.run(_run(settings, socket.socket(fileno=hello.listen_fd)))
    return 0


def http_server(asgi: ASGIApp, settings: GatewaySettings, metrics: Metrics) -> uvicorn.Server:
    """Build the server that carries the gateway's app; it leaves signals alone."""
    return _Server(
        uvicorn.Config(
            asgi,
            # Only called, never subclassed, whatever uvicorn's annotation says.
            http=partial(Connection, settings, metrics, set()),  # type: ignore[arg-type]
            # Only called too; uvicorn calls whatever this is.
            ws=partial(SocketConnection, settings, metrics),  # type: ignore[arg-type]
            ws_max_size=settings.max_body_bytes,
            ws_per_message_deflate=False,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            ssl_certfile=settings.tls_cert_file,
            ssl_keyfile=settings.tls_key_file,
            timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
        ),
        settings.header_timeout_s,
    )


async def _run(settings: Settings, listener: socket.socket) -> None:
    streams = StreamTable(
        Retention(settings.streams.finished_ttl_s, settings.streams.max_total_bytes),
        settings.streams.max_stream_bytes,
        time.monotonic,
        settings.streams.max_request_bytes,
    )
    models = tuple(model.name for model in settings.models)
    adapters = {name: model.name for model in settings.models for name in model.adapters}
    drafters = {
        model.name: tuple(model.speculation.drafters)
        for model in settings.models
        if model.speculation is not None
    }
    pool = ReplicaPool(models, streams, settings.data_plane, adapters, drafters)
    languages = {model.name: model.drafted_languages for model in settings.models}
    metrics = Metrics(models, version("headstart"), languages=languages)
    access = Access(settings.access, settings.data_plane.secret_value, time.monotonic)
    endpoint = _endpoint(settings, metrics)
    transport = endpoint.describe if endpoint is not None else lambda _host: None
    asgi = app.build(
        pool,
        streams,
        metrics,
        settings.gateway,
        access,
        transport,
        settings.live,
        models=settings.models,
    )
    sessions: LiveSessions = asgi.state.live
    server = http_server(asgi, settings.gateway, metrics)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as group:
        background = [
            group.create_task(_follow_daemon(pool, stopping), name="follow daemon"),
            group.create_task(_tick(pool, streams, metrics, endpoint, sessions), name="tick"),
        ]
        if endpoint is not None:
            await _start(endpoint, asgi, listener.getsockname()[1])
        serving = group.create_task(server.serve([listener]), name="serve")
        await stopping.wait()
        left_s = await drain(pool, streams, sessions, settings.gateway.shutdown_grace_s)
        # For readers who have not yet taken what is there for them.
        server.config.timeout_graceful_shutdown = max(1, round(left_s))
        server.should_exit = True
        await serving
        if endpoint is not None:
            await endpoint.close()
        for task in background:
            task.cancel()


async def drain(
    pool: ReplicaPool, streams: StreamTable, sessions: LiveSessions, grace_s: float
) -> float:
    """Refuse new requests, let running answers finish, and end those that have not in time.

    Then live prompts end, while what they have come to can still be asked for.

    Meanwhile the socket stays open: a load balancer sees 503 at `/readyz`, a client that comes too
    late sees it with `Retry-After`, and a detached answer can still be fetched.

    Returns: Seconds that are left of `grace_s`.
    """
    began = time.monotonic()
    pool.drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(grace_s):
            await asyncio.gather(*(stream.finished() for stream in streams.live))
    if streams.live:
        _log.warning("answers_cut", num_streams=len(streams.live))
    # Ends the others with an error that says so, where a cut connection would say nothing.
    await pool.close()
    await sessions.close()
    return max(0.0, grace_s - (time.monotonic() - began))


class _Server(uvicorn.Server):
    """uvicorn's server on sockets that are there, with a limit on TLS handshakes.

    Args:
        config: As uvicorn takes it.
        handshake_timeout_s: Until a handshake is done, no `Connection` watches over its client.
    """

    def __init__(self, config: uvicorn.Config, handshake_timeout_s: float) -> None:
        super().__init__(config)
        self._handshake_timeout_s = handshake_timeout_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        config = self.config

        def connect() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn does
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        loop = asyncio.get_running_loop()
        limit_s = self._handshake_timeout_s if config.ssl else None
        self.servers = [
            await loop.create_server(
                connect,
                sock=sock,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=limit_s,
            )
            for sock in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        # Signals are the gateway's to handle; uvicorn would replace its handlers.
        yield


async def _follow_daemon(pool: ReplicaPool, stopping: asyncio.Event) -> None:
    async for line in _lines():
        table = msgspec.json.decode(line, type=Table | None)
        if table is None:
            break
        pool.update(table.replicas)
    else:
        _log.info("daemon_gone")
    stopping.set()


async def _lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield line


def _endpoint(settings: Settings, metrics: Metrics) -> "QuicEndpoint | None":
    if not settings.quic.enabled:
        return None
    from headstart.pipeline.certificates import wall_clock
    from headstart.pipeline.quic_endpoint import QuicEndpoint

    return QuicEndpoint(settings.quic, settings.gateway, metrics.transport, wall_clock)


async def _start(endpoint: "QuicEndpoint", asgi: ASGIApp, tcp_port: int) -> None:
    try:
        await endpoint.start(asgi, tcp_port)
    except OSError as error:
        # Clients fall back to event streams, as on networks that block UDP.
        _log.error("quic_unavailable", reason=str(error))


async def _tick(
    pool: ReplicaPool,
    streams: StreamTable,
    metrics: Metrics,
    endpoint: "QuicEndpoint | None",
    sessions: LiveSessions,
) -> None:
    """Refresh the gauges, forget expired logs, and notice when the loop is late."""
    is_announced = False
    while True:
        if pool.is_ready and not is_announced:
            is_announced = True
            keep_loaded()
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        due = time.monotonic() + _TICK_S
        await asyncio.sleep(_TICK_S)
        metrics.loop_lagged(max(0.0, time.monotonic() - due))
        metrics.set_tasks(len(asyncio.all_tasks()))
        streams.expire()
        pool.continuity.expire()
        sessions.expire()
        if endpoint is not None:
            endpoint.tick()
        num_live = len(streams.live)
        metrics.set_streams(
            live=num_live, finished=len(streams) - num_live, log_bytes=streams.log_bytes
        )
        for model in pool.models:
            links = pool.up(model)
            loads = [link.load() for link in links]
            metrics.set_replicas(model, up=len(links), known=pool.num_known(model))
            metrics.set_load(
                model,
                waiting=sum(load.waiting for load in loads),
                running=sum(load.running for load in loads),
            )
            for link in links:
                metrics.speculated(model, link.new_speculation())
            if links:
                uncertainty_s = max(link.clock.uncertainty_s for link in links)
                metrics.set_clock_uncertainty(model, uncertainty_s)
