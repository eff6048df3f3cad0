"""Carriers in pairs: both ends of one connection, and what each was told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from headstart.client.carrier import Carrier, CarrierEvents, CarrierStats
from headstart.client.quic_carrier import QuicCarrier
from headstart.client.quic_connect import Trust, open_carrier
from headstart.configs.serving import QuicSettings
from headstart.pipeline.certificates import Certificates
from headstart.pipeline.quic_listener import Listener, configuration_for, listen
from headstart.stages.errors import ProtocolViolation
from tests.support.waiting import eventually

__all__ = ["End", "MemoryCarrier", "Pair", "Told", "pair"]

MEMORY_PAYLOAD = 1000


@dataclass
class Told:
    """`CarrierEvents` that remember."""

    datagrams: list[bytes] = field(default_factory=list)
    streams: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    resets: set[int] = field(default_factory=set)
    num_ready: int = 0
    num_paths: int = 1
    broken_for: str | None = None
    closed_for: str | None = None
    is_established: bool = False

    def datagram(self, data: bytes) -> None:
        self.datagrams.append(data)

    def stream_data(self, stream_id: int, data: bytes, is_end: bool) -> None:
        self.streams[stream_id] = self.streams.get(stream_id, b"") + data
        if is_end:
            self.ended.add(stream_id)

    def stream_reset(self, stream_id: int) -> None:
        self.resets.add(stream_id)

    def ready(self) -> None:
        self.num_ready += 1

    def progressed(self) -> None:
        pass

    def path_changed(self) -> None:
        self.num_paths += 1

    def established(self) -> None:
        self.is_established = True

    def broken(self, reason: str) -> None:
        self.broken_for = reason

    def closed(self, reason: str) -> None:
        self.closed_for = reason


@dataclass
class End:
    """One end of a connection."""

    carrier: Carrier
    told: Told


@dataclass
class Pair:
    """Both ends."""

    client: End
    server: End
    listener: Listener | None = None
    hashes: frozenset[bytes] = frozenset()
    """Of the listener's certificates."""


class MemoryCarrier:
    """A carrier whose peer is an object; delivers on the event loop's next turn.

    It takes `window` datagrams, then none until `open_window`.
    """

    def __init__(self, told: CarrierEvents, first_stream: int) -> None:
        self.told = told
        self.peer: MemoryCarrier | None = None
        self.window = 1 << 30
        self._next_stream = first_stream
        self._slots: dict[int, bytes] = {}
        self._is_blocked = self._is_asking = False
        self._ended: set[int] = set()
        self._stats = CarrierStats(srtt_s=0.01)
        self._is_closed = False

    @property
    def is_established(self) -> bool:
        return True

    def max_payload(self) -> int:
        return MEMORY_PAYLOAD

    def send_latest(self, stream: int, data: bytes) -> bool:
        if len(data) > MEMORY_PAYLOAD:
            self._stats.oversize += 1
            raise ProtocolViolation("too long")
        if stream in self._slots:
            self._stats.replaced += 1
        self._slots[stream] = data
        self._flush()
        return not self._is_blocked

    def open_window(self, window: int = 1 << 30) -> None:
        self.window = window
        if self._is_blocked:
            self._is_blocked = False
            self._is_asking = True
            self.told.ready()
            self._is_asking = False
            self._flush()

    def _flush(self) -> None:
        if self._is_asking:
            return
        while self._slots and self.window and not self._is_closed:
            self.window -= 1
            data = self._slots.pop(next(iter(self._slots)))
            self._stats.sent += 1
            self._later(lambda peer, data=data: peer.arrived(data))
        self._is_blocked = not self.window

    def arrived(self, data: bytes) -> None:
        self._stats.received += 1
        self.told.datagram(data)
        self.told.progressed()

    def open_stream(self, *, is_bidirectional: bool) -> int:
        stream_id = self._next_stream + (0 if is_bidirectional else 2)
        self._next_stream += 4
        return stream_id

    def write(self, stream_id: int, data: bytes, *, is_end: bool = False) -> None:
        if stream_id in self._ended:
            return
        if is_end:
            self._ended.add(stream_id)
        self._later(lambda peer: peer.told.stream_data(stream_id, data, is_end))

    def backlog(self, stream_id: int) -> int:
        return 0

    def reset_stream(self, stream_id: int) -> None:
        self._ended.add(stream_id)
        self._later(lambda peer: peer.told.stream_reset(stream_id))

    def keep_alive(self, now: float) -> None:
        pass

    def stats(self) -> CarrierStats:
        return self._stats

    def close(self, code: int = 0, reason: str = "") -> None:
        if not self._is_closed:
            self._is_closed = True
            self._later(lambda peer: peer.closed(reason))
            self.told.closed(reason or "closed")

    def closed(self, reason: str) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.told.closed(reason)

    def _later(self, act) -> None:  # type: ignore[no-untyped-def]
        asyncio.get_running_loop().call_soon(lambda: act(self.peer))


@asynccontextmanager
async def pair(
    kind: str, settings: QuicSettings | None = None, *, has_datagrams: bool = True
) -> AsyncIterator[Pair]:
    """Connect two carriers: `plain`, `webtransport` or `memory`."""
    ours, theirs = Told(), Told()
    if kind == "memory":
        client, server = MemoryCarrier(ours, 0), MemoryCarrier(theirs, 1)
        client.peer, server.peer = server, client
        yield Pair(End(client, ours), End(server, theirs))
        return
    settings = settings or QuicSettings()
    configuration = configuration_for(settings)
    certificates = Certificates(configuration, "localhost", datetime.now(UTC))
    hashes = frozenset(certificates.hashes)
    accepted: list[QuicCarrier] = []

    def accept(carrier: QuicCarrier, path: str | None) -> Told:
        accepted.append(carrier)
        return theirs

    listener = await listen("127.0.0.1", 0, configuration, accept, settings)
    try:
        carrier = await open_carrier(
            "127.0.0.1",
            listener.port,
            lambda carrier, path: ours,
            Trust(hashes),
            is_webtransport=kind == "webtransport",
            has_datagrams=has_datagrams,
        )
        try:
            await eventually(lambda: bool(accepted) and accepted[0].is_established)
            yield Pair(End(carrier, ours), End(accepted[0], theirs), listener, hashes)
        finally:
            carrier.close()
    finally:
        listener.close()
