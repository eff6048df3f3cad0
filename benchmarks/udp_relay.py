"""A path for UDP on loopback, without privileges; its server may forget who its clients are."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from headstart.benchmarks.link_flows import Direction

__all__ = ["Address", "UdpRelay", "udp_relay"]

Address = tuple[str, int]
Arrivals = Callable[[Address, Direction, int, float], list[float]]
"""When a packet of a client's arrives, by its direction, its size with headers, and the time."""

_HEADERS_BYTES = 28
"""IPv4 and UDP."""


class UdpRelay:
    """Stands before a server and looks like it.

    Args:
        server: Where packets go.
        arrivals: The path.
    """

    def __init__(self, server: Address, arrivals: Arrivals) -> None:
        self.server = server
        self.port = 0
        self._arrivals = arrivals
        self._inward: asyncio.DatagramTransport | None = None
        self._outward: dict[Address, asyncio.DatagramTransport] = {}
        self._opening: dict[Address, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Take packets from clients at `port`."""
        self._inward = await self._socket(self._from_client)
        self.port = self._inward.get_extra_info("sockname")[1]

    def close(self) -> None:
        """Stop."""
        for task in self._opening.values():
            task.cancel()
        for transport in (self._inward, *self._outward.values()):
            if transport is not None:
                transport.close()

    async def rebind(self, host: str = "127.0.0.1") -> None:
        """Go on from other source ports, as a router does that has forgotten its clients.

        Args:
            host: Another address of this machine's looks like another network.
        """
        for client in list(self._outward):
            old, self._outward[client] = self._outward[client], await self._towards(client, host)
            old.close()

    async def _towards(self, client: Address, host: str = "127.0.0.1") -> asyncio.DatagramTransport:
        return await self._socket(
            lambda data, _: self._pass(client, "down", data, self._inward, client), host
        )

    async def _socket(
        self, take: Callable[[bytes, Address], None], host: str = "127.0.0.1"
    ) -> asyncio.DatagramTransport:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Socket(take), local_addr=(host, 0)
        )
        return transport

    def _from_client(self, data: bytes, client: Address) -> None:
        if client in self._outward:
            self._pass(client, "up", data, self._outward[client], self.server)
        elif client not in self._opening:
            # What comes meanwhile is lost: clients say again what nobody answers.
            self._opening[client] = asyncio.ensure_future(self._open(client, data))

    async def _open(self, client: Address, data: bytes) -> None:
        self._outward[client] = await self._towards(client)
        self._from_client(data, client)

    def _pass(
        self,
        client: Address,
        direction: Direction,
        data: bytes,
        by: asyncio.DatagramTransport | None,
        to: Address,
    ) -> None:
        now = time.monotonic()
        for at in self._arrivals(client, direction, len(data) + _HEADERS_BYTES, now):
            asyncio.get_running_loop().call_later(at - now, _send, by, data, to)


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes, Address], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._take(data, addr)

    def error_received(self, _error: Exception) -> None:
        """Nobody listens there, for now."""


def _send(by: asyncio.DatagramTransport | None, data: bytes, to: Address) -> None:
    if by is not None and not by.is_closing():
        by.sendto(data, to)


@asynccontextmanager
async def udp_relay(server_port: int, arrivals: Arrivals) -> AsyncIterator[UdpRelay]:
    """Run a relay to a port of 127.0.0.1."""
    relay = UdpRelay(("127.0.0.1", server_port), arrivals)
    await relay.start()
    try:
        yield relay
    finally:
        relay.close()
