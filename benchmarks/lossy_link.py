"""A link that loses packets, between two kernels' worth of sockets, in a process of its own.

Where root allows it, two network namespaces with a TUN device each: TCP and UDP alike cross it, an
IP packet at a time. Else a relay for UDP on loopback; TCP has no lossy path then. The process is
spoken to in lines of JSON; when its input ends, it ends, and both namespaces with it.
"""

import asyncio
import os
import time
from typing import Literal

import msgspec
import numpy as np
import uvloop

from headstart.benchmarks.child import lines, say
from headstart.benchmarks.link_flows import UDP, Direction, Flow, Flows, Others, Passed, key_of
from headstart.benchmarks.network_spaces import make
from headstart.benchmarks.socket_cells import links
from headstart.benchmarks.udp_relay import Address, UdpRelay
from headstart.stages.errors import SetupError

__all__ = ["Begin", "Crossed", "Forward", "Standing", "Tell", "serve"]

_MAX_PACKET = 1 << 16
_MANY = 256
"""Packets taken in a row from one end, before the other's turn."""


class Standing(msgspec.Struct):
    """First line: what kind of link there is."""

    kind: Literal["tun", "relay"]
    why: str = ""
    """What a TUN pair lacked."""
    server_space: str | None = None
    client_space: str | None = None
    controls: list[str] = []
    """Congestion controls that the server's TCP has."""


class Forward(msgspec.Struct, tag=True):
    """Let clients reach these UDP ports of the server; answered by the ports to use for that."""

    ports: list[int]


class Begin(msgspec.Struct, tag=True):
    """Expect these answers and no others; answered by `true`."""

    flows: list[Flow]
    delay_s: float
    """One way, before their weather begins."""
    others: Others | None = None
    """The weather of everybody else."""


class Tell(msgspec.Struct, tag=True):
    """Answered by `Crossed`."""


class Crossed(msgspec.Struct):
    """What has crossed the link since the last `Begin`."""

    flows: list[Passed]
    late_p99_s: float
    """Of the link's own deliveries: how busy the machine is."""
    num_swallowed: int
    """Packets that a full queue of the kernel's has lost, which no weather asked for."""


def serve() -> None:
    """Be the link."""
    try:
        server, client, controls = make()
    except SetupError as error:
        uvloop.run(_serve(_Relays(), Standing("relay", error.message)))
        return
    standing = Standing("tun", "", server.path, client.path, controls)
    uvloop.run(_serve(_Tun(server.device, client.device), standing))


class _Path:
    """Passes packets on by the flows' weather."""

    def __init__(self) -> None:
        self.flows = Flows(links)
        self.late_s: list[float] = []
        self.num_swallowed = 0

    def begin(self, order: Begin) -> None:
        self.flows.begin(order.flows, order.delay_s, order.others)
        self.late_s.clear()
        self.num_swallowed = 0

    def crossed(self) -> Crossed:
        late_s = float(np.quantile(self.late_s, 0.99)) if self.late_s else 0.0
        return Crossed(self.flows.passed(), late_s, self.num_swallowed)

    def open(self) -> None:
        """Begin to take packets."""

    async def forward(self, ports: list[int]) -> list[int]:
        """Let clients reach these ports."""
        return ports


class _Tun(_Path):
    def __init__(self, server: int, client: int) -> None:
        super().__init__()
        self._server, self._client = server, client

    def open(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._server, self._take, self._server, self._client, "down")
        loop.add_reader(self._client, self._take, self._client, self._server, "up")

    def _take(self, source: int, to: int, direction: Direction) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_MANY):
            try:
                packet = os.read(source, _MAX_PACKET)
            except BlockingIOError:
                return
            if (key := key_of(packet, direction)) is None:
                continue
            now = time.monotonic()
            for at in self.flows.arrivals(key, direction, len(packet), now):
                loop.call_later(at - now, self._deliver, to, packet, at)

    def _deliver(self, to: int, packet: bytes, due: float) -> None:
        self.late_s.append(time.monotonic() - due)
        try:
            os.write(to, packet)
        except OSError:  # as any router with a full queue
            self.num_swallowed += 1


class _Relays(_Path):
    async def forward(self, ports: list[int]) -> list[int]:
        relays = [UdpRelay(("127.0.0.1", port), self._arrivals) for port in ports]
        for relay in relays:
            await relay.start()
        return [relay.port for relay in relays]

    def _arrivals(
        self, client: Address, direction: Direction, size_bytes: int, now: float
    ) -> list[float]:
        return self.flows.arrivals((UDP, client[1]), direction, size_bytes, now)


async def _serve(path: _Path, standing: Standing) -> None:
    path.open()
    say(standing)
    async for line in lines():
        order = msgspec.json.decode(line, type=Forward | Begin | Tell)
        if isinstance(order, Forward):
            say(await path.forward(order.ports))
        elif isinstance(order, Begin):
            path.begin(order)
            say(True)
        else:
            say(path.crossed())
