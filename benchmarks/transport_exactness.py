"""Thousands of short answers over networks at random: does every reader get every byte?"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from headstart.benchmarks.channel_models import (
    Blackouts,
    Bottleneck,
    Link,
    Loss,
    NoLoss,
    RandomLoss,
    gilbert_elliott,
)
from headstart.benchmarks.datagram_schemes import STREAM, DatagramClient, DatagramServer
from headstart.benchmarks.link_simulator import Lane, Packet, Party, simulate
from headstart.stages.congestion import TokenCongestion
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.datagram_sender import DatagramSender, SenderLimits
from headstart.stages.token_log import TokenLog

__all__ = ["Network", "is_exact"]

_LINGER_S = 60.0


@dataclass(frozen=True, slots=True)
class Network:
    """A network and a speaker drawn from one number."""

    seed: int
    rtt_s: float
    steps: Sequence[float]
    sizes: Sequence[int]
    max_payload: int

    @classmethod
    def drawn(cls, seed: int) -> "Network":
        """Draw one."""
        random = Random(seed)  # noqa: S311 weather, not a secret
        gap_s = random.choice((0.0, 0.004, 0.02, 0.1))
        steps = [0.01 + gap_s * step for step in range(random.randint(1, 60))]
        sizes = [random.randint(1, 9) for _ in steps]
        payload = random.choice((128, 300, 1150))
        return cls(seed, random.choice((0.02, 0.1, 0.3, 0.45)), steps, sizes, payload)

    def link(self, salt: int) -> Link:
        """One direction."""
        random = Random(f"{self.seed} {salt}")  # noqa: S311 weather
        loss: Loss = random.choice(
            (
                NoLoss(),
                RandomLoss(random.uniform(0, 0.5), self.seed + salt),
                gilbert_elliott(0.03, 0.2, 0.95, self.seed + salt),
            )
        )
        if random.random() < 0.3:
            start = 2 * random.random()
            loss = Blackouts([(start, start + random.choice((0.2, 1.0, 5.0)))], loss)
        return Link(
            loss,
            self.rtt_s / 2,
            reorder=random.choice((0.0, 0.03, 0.3)),
            duplicate=random.choice((0.0, 0.03, 0.3)),
            bottleneck=random.choice((None, None, Bottleneck(8_000.0))),
            seed=self.seed + salt,
        )


def is_exact(network: Network) -> bool:
    """Stream one answer to two readers over one link; whether both have the log, byte for byte."""
    log = TokenLog(1 << 24)
    servers = tuple(_server(network, log) for _ in range(2))
    clients = tuple(DatagramClient(DatagramReceiver(STREAM)) for _ in servers)
    ends = _Servers(servers), _Clients(clients)
    # The end and its digest may come seconds after the text, once a blackout is over.
    simulate(Lane(*ends, network.link(1), network.link(2), network.steps, linger_s=_LINGER_S))
    whole = log.read(0)
    return all(bytes(client.shown) == whole and client.machine.is_complete for client in clients)


def _server(network: Network, log: TokenLog) -> DatagramServer:
    limits = SenderLimits(max_payload=network.max_payload)
    machine = DatagramSender(STREAM, log, limits=limits, rtt_s=network.rtt_s)
    return DatagramServer(
        machine, log, network.rtt_s, TokenCongestion(network.rtt_s), network.sizes
    )


def _addressed(reader: int, packets: list[Packet]) -> list[Packet]:
    return [Packet(packet.size_bytes, (reader, packet.content)) for packet in packets]


def _opened(packet: Packet) -> tuple[int, Packet]:
    assert isinstance(packet.content, tuple)
    reader, content = packet.content
    return reader, Packet(packet.size_bytes, content)


class _Servers:
    """One sender for each reader, all over the same log."""

    def __init__(self, servers: Sequence[DatagramServer]) -> None:
        self._servers = servers

    def produced(self, step: int, is_last: bool, now: float) -> list[Packet]:
        packets = _addressed(0, self._servers[0].produced(step, is_last, now))
        for reader, server in enumerate(self._servers[1:], 1):
            packets += _addressed(reader, server.grown(now))
        return packets

    def received(self, packet: Packet, now: float) -> list[Packet]:
        reader, content = _opened(packet)
        return _addressed(reader, self._servers[reader].received(content, now))

    def deadline(self) -> float | None:
        return _first(self._servers)

    def expire(self, now: float) -> list[Packet]:
        return _expired(self._servers, now)


class _Clients:
    def __init__(self, clients: Sequence[DatagramClient]) -> None:
        self._clients = clients

    @property
    def num_rendered(self) -> int:
        return min(client.num_rendered for client in self._clients)

    def received(self, packet: Packet, now: float) -> list[Packet]:
        reader, content = _opened(packet)
        return _addressed(reader, self._clients[reader].received(content, now))

    def deadline(self) -> float | None:
        return _first(self._clients)

    def expire(self, now: float) -> list[Packet]:
        return _expired(self._clients, now)


def _first(ends: Sequence[Party]) -> float | None:
    return min((at for end in ends if (at := end.deadline()) is not None), default=None)


def _expired(ends: Sequence[Party], now: float) -> list[Packet]:
    packets: list[Packet] = []
    for reader, end in enumerate(ends):
        if (due := end.deadline()) is not None and due <= now:
            packets += _addressed(reader, end.expire(now))
    return packets
