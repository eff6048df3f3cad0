"""A UDP link on loopback that loses, delays, reorders and repeats packets, by a seed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import cast

__all__ = ["UdpRelay", "udp_relay"]

Address = tuple[str, int]


@dataclass
class UdpRelay:
    """Stands before a server and looks like it. What is set holds for packets that come later."""

    loss: float = 0.0
    """Share of packets lost, in each direction."""
    duplication: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Up to so much more, by packet: what comes later may overtake."""
    is_dark: bool = False
    """Nothing passes."""
    port: int = 0
    num_lost: int = 0
    num_passed: int = 0
    random: Random = field(default_factory=lambda: Random(1))
    server: Address = ("127.0.0.1", 0)
    _outward: dict[Address, asyncio.DatagramTransport] = field(default_factory=dict)
    _inward: asyncio.DatagramTransport | None = None

    async def rebind(self) -> None:
        """Go on from other source ports, as a router does that has forgotten its clients."""
        for client, old in list(self._outward.items()):
            self._outward[client] = await self._open(client)
            old.close()

    async def _open(self, client: Address) -> asyncio.DatagramTransport:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Outward(self, client), local_addr=("127.0.0.1", 0)
        )
        return transport

    def _to_server(self, data: bytes, client: Address) -> None:
        outward = self._outward.get(client)
        if outward is not None and not outward.is_closing():
            outward.sendto(data, self.server)

    def _to_client(self, data: bytes, client: Address) -> None:
        if self._inward is not None and not self._inward.is_closing():
            self._inward.sendto(data, client)

    def _pass(self, deliver, data: bytes, client: Address) -> None:  # type: ignore[no-untyped-def]
        if self.is_dark or self.random.random() < self.loss:
            self.num_lost += 1
            return
        self.num_passed += 1
        loop = asyncio.get_running_loop()
        for _ in range(1 + (self.random.random() < self.duplication)):
            delay_s = self.delay_s + self.jitter_s * self.random.random()
            loop.call_later(delay_s, deliver, data, client)


class _Inward(asyncio.DatagramProtocol):
    def __init__(self, relay: UdpRelay) -> None:
        self._relay = relay
        self._opening: dict[Address, asyncio.Task[asyncio.DatagramTransport]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._relay._inward = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        relay = self._relay
        if addr in relay._outward:
            relay._pass(relay._to_server, data, addr)
            return
        if addr not in self._opening:
            self._opening[addr] = asyncio.ensure_future(relay._open(addr))
        self._opening[addr].add_done_callback(lambda task: self._opened(task, data, addr))

    def _opened(
        self, task: asyncio.Task[asyncio.DatagramTransport], data: bytes, addr: Address
    ) -> None:
        if not task.cancelled():
            self._relay._outward.setdefault(addr, task.result())
            self._relay._pass(self._relay._to_server, data, addr)


class _Outward(asyncio.DatagramProtocol):
    def __init__(self, relay: UdpRelay, client: Address) -> None:
        self._relay = relay
        self._client = client

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._relay._pass(self._relay._to_client, data, self._client)


@asynccontextmanager
async def udp_relay(server_port: int, seed: int = 1, **link: float) -> AsyncIterator[UdpRelay]:
    """Run a relay to a port of 127.0.0.1."""
    relay = UdpRelay(random=Random(seed), server=("127.0.0.1", server_port), **link)  # type: ignore[arg-type]
    inward, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Inward(relay), local_addr=("127.0.0.1", 0)
    )
    relay.port = inward.get_extra_info("sockname")[1]
    try:
        yield relay
    finally:
        inward.close()
        for transport in relay._outward.values():
            transport.close()
