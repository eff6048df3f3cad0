"""A UDP link on loopback that loses, delays, reorders and repeats packets, by a seed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from headstart.benchmarks import udp_relay as path
from headstart.benchmarks.link_flows import Direction

__all__ = ["UdpRelay", "udp_relay"]


class UdpRelay(path.UdpRelay):
    """Stands before a server and looks like it. What is set holds for packets that come later.

    Args:
        server_port: Of 127.0.0.1.
        loss: Share of packets lost, in each direction.
        duplication: Share that comes twice.
        delay_s: Of each packet, in each direction.
        jitter_s: Up to so much more, by packet: what comes later may overtake.
    """

    def __init__(
        self,
        server_port: int,
        seed: int = 1,
        *,
        loss: float = 0.0,
        duplication: float = 0.0,
        delay_s: float = 0.0,
        jitter_s: float = 0.0,
    ) -> None:
        super().__init__(("127.0.0.1", server_port), self._weather)
        self.loss = loss
        self.duplication = duplication
        self.delay_s = delay_s
        self.jitter_s = jitter_s
        self.is_dark = False
        """Nothing passes."""
        self.num_lost = 0
        self.num_passed = 0
        self._random = Random(seed)

    def _weather(
        self, client: path.Address, direction: Direction, size: int, now: float
    ) -> list[float]:
        if self.is_dark or self._random.random() < self.loss:
            self.num_lost += 1
            return []
        self.num_passed += 1
        return [
            now + self.delay_s + self.jitter_s * self._random.random()
            for _ in range(1 + (self._random.random() < self.duplication))
        ]


@asynccontextmanager
async def udp_relay(server_port: int, seed: int = 1, **link: float) -> AsyncIterator[UdpRelay]:
    """Run a relay to a port of 127.0.0.1."""
    relay = UdpRelay(server_port, seed, **link)
    await relay.start()
    try:
        yield relay
    finally:
        relay.close()
