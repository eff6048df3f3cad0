"""The servers whose CPU time `quic_cost` compares, each in a process of its own.

Both send one datagram a stream and tick and are answered with one. The bare one is aioquic as it
comes, and sends the same bytes every time. Both keep what is loaded out of the collector's rounds,
as the gateway does.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import uvloop
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import DatagramFrameReceived, HandshakeCompleted, QuicEvent

from headstart.client.quic_carrier import QuicCarrier
from headstart.client.quic_framing import ALPN
from headstart.cluster.process_memory import keep_loaded
from headstart.cluster.stream import Stream
from headstart.cluster.tasks import Tasks
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import CarrierKind
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.certificates import Certificates
from headstart.pipeline.log_response import CARRY
from headstart.pipeline.quic_listener import configuration_for, listen
from headstart.pipeline.quic_session import Session
from headstart.stages.frames import Channel, Frame, StreamHeader

__all__ = ["DATAGRAM_BYTES", "TICK_S", "Cost", "Go", "Listening", "serve_bare", "serve_ours"]

TICK_S = 0.02
DATAGRAM_BYTES = 120

_HEADER = StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "tiny", 1_700_000_000)
_MAX_LOG_BYTES = 1 << 24


class Listening(msgspec.Struct):
    """First line: where, and with which certificate."""

    port: int
    sha256: str = ""


class Go(msgspec.Struct):
    """A line to the child: send now."""

    num_ticks: int


class Cost(msgspec.Struct):
    """The answer."""

    cpu_s: float
    """Of the whole process while it sent."""
    num_sent: int
    """Datagrams."""
    num_received: int


def serve_ours() -> None:
    """Serve answers as the gateway does."""
    uvloop.run(_serve(_Ours()))


def serve_bare() -> None:
    """Send datagrams, and nothing more."""
    uvloop.run(_serve(_Bare()))


class _Ours:
    def __init__(self) -> None:
        self._streams: list[Stream] = []
        self._carriers: list[QuicCarrier] = []
        self._meter = Metrics(["tiny"], "0").transport
        self._settings = QuicSettings()
        self._tasks = Tasks()
        self._number = 0

    async def listen(self) -> Listening:
        configuration = configuration_for(self._settings)
        made = Certificates(configuration, "localhost", datetime.now(UTC))
        listener = await listen("127.0.0.1", 0, configuration, self._accept, self._settings)
        return Listening(listener.port, made.hashes[0].hex())

    def totals(self) -> tuple[int, int]:
        stats = [carrier.stats() for carrier in self._carriers]
        return sum(one.sent for one in stats), sum(one.received for one in stats)

    def tick(self) -> None:
        self._number += 1
        at_us = int(self._number * TICK_S * 1e6)
        for stream in self._streams:
            stream.append(Frame(0, Channel.CONTENT, " token", (4711,), at_us))

    def _accept(self, carrier: QuicCarrier, path: str | None) -> Session:
        self._carriers.append(carrier)
        return Session(
            carrier, CarrierKind.PLAIN, self._app, self._settings, 1, self._meter, self._tasks
        )

    async def _app(self, scope: Any, _receive: Any, send: Any) -> None:
        stream = Stream("", _MAX_LOG_BYTES)
        stream.append(_HEADER)
        self._streams.append(stream)
        scope["extensions"][CARRY](stream, 0, None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class _BareConnection(QuicConnectionProtocol):
    def __init__(self, quic: QuicConnection, server: "_Bare") -> None:
        super().__init__(quic)
        self._server = server

    def send(self, data: bytes) -> None:
        self._quic.send_datagram_frame(data)
        self.transmit()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, DatagramFrameReceived):
            self._server.num_received += 1
        elif isinstance(event, HandshakeCompleted):
            self._server.connections.append(self)


class _Bare:
    def __init__(self) -> None:
        self.connections: list[_BareConnection] = []
        self.num_sent = self.num_received = 0
        self._data = bytes(DATAGRAM_BYTES)

    async def listen(self) -> Listening:
        configuration = QuicConfiguration(
            is_client=False, alpn_protocols=[ALPN], max_datagram_frame_size=65_536
        )
        Certificates(configuration, "localhost", datetime.now(UTC))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: QuicServer(
                configuration=configuration,
                create_protocol=lambda quic, stream_handler: _BareConnection(quic, self),
            ),
            local_addr=("127.0.0.1", 0),
        )
        return Listening(transport.get_extra_info("sockname")[1])

    def totals(self) -> tuple[int, int]:
        return self.num_sent, self.num_received

    def tick(self) -> None:
        for connection in self.connections:
            self.num_sent += 1
            connection.send(self._data)


async def _serve(server: _Ours | _Bare) -> None:
    loop = asyncio.get_running_loop()
    _say(await server.listen())
    keep_loaded()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        go = msgspec.json.decode(line, type=Go)
        before, began = server.totals(), time.process_time()
        start = loop.time()
        for tick in range(go.num_ticks):
            await asyncio.sleep(max(0.0, start + tick * TICK_S - loop.time()))
            server.tick()
        await asyncio.sleep(TICK_S)
        sent, received = server.totals()
        cpu_s = time.process_time() - began
        _say(Cost(cpu_s, sent - before[0], received - before[1]))


def _say(line: Listening | Cost) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()
