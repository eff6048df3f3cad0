"""Two machines, a link and a clock that jumps: one answer streamed in virtual time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from headstart.benchmarks.channel_models import Link

__all__ = ["Client", "Packet", "Party", "Run", "Server", "simulate"]

_MAX_INSTANT = 10_000
"""Steps without the clock moving: a machine that asks to be woken for nothing."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What travels; only the parties know what the content means."""

    size_bytes: int
    """On the wire, all headers included."""
    content: object


class Party(Protocol):
    """One end. Every method returns the packets that leave at that moment."""

    def received(self, packet: Packet, now: float) -> list[Packet]:
        """Take a packet from the other end."""
        ...

    def deadline(self) -> float | None:
        """When `expire` next has something to do."""
        ...

    def expire(self, now: float) -> list[Packet]:
        """Do what is due."""
        ...


class Server(Party, Protocol):
    """The end that makes tokens."""

    def produced(self, step: int, is_last: bool, now: float) -> list[Packet]:
        """Send what the engine step of this index, counted from 0, has given."""
        ...


class Client(Party, Protocol):
    """The end that shows tokens."""

    @property
    def num_rendered(self) -> int:
        """Steps shown so far, in order."""
        ...


@dataclass(slots=True)
class Run:
    """What one simulated answer gave."""

    generated: list[float]
    rendered: list[float] = field(default_factory=list)
    """One for each step that was shown; fewer than `generated` if time ran out."""
    down_bytes: int = 0
    up_bytes: int = 0
    down_packets: int = 0
    down_lost: int = 0
    ended_at: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether everything was shown."""
        return len(self.rendered) == len(self.generated)

    def delays(self, delay_s: float) -> list[float]:
        """Render delay of each step beyond the link's own, in seconds, ascending."""
        pairs = zip(self.generated, self.rendered, strict=True)
        return sorted(shown - made - delay_s for made, shown in pairs)


def simulate(
    server: Server,
    client: Client,
    down: Link,
    up: Link,
    steps: Sequence[float],
    patience_s: float = 600.0,
    linger_s: float = 2.0,
) -> Run:
    """Stream one answer.

    Args:
        steps: When each engine step gives its tokens, in seconds, ascending.
        patience_s: Give up so long after the last.
        linger_s: Go on so long after all is shown: what is sent then counts too.
    """
    run = Run(list(steps))
    order = count()
    queue: list[tuple[float, int, int | None, bool, Packet | None]] = [
        (at, next(order), index, True, None) for index, at in enumerate(steps)
    ]
    now, num_steps, limit = 0.0, 0, steps[-1] + patience_s

    def post(packets: list[Packet], link: Link, to_client: bool) -> None:
        for packet in packets:
            arrivals = link.arrivals(now, packet.size_bytes)
            if to_client:
                run.down_bytes += packet.size_bytes
                run.down_packets += 1
                run.down_lost += not arrivals
            else:
                run.up_bytes += packet.size_bytes
            for at in arrivals:
                heappush(queue, (at, next(order), None, to_client, packet))

    while True:
        moments = [at for at in (server.deadline(), client.deadline()) if at is not None]
        if queue:
            moments.append(queue[0][0])
        if not moments or (later := max(now, min(moments))) > limit:
            break
        num_steps = num_steps + 1 if later == now else 0
        assert num_steps < _MAX_INSTANT, "a machine asks to be woken for nothing"
        now = later
        if queue and queue[0][0] <= now:
            _, _, step, to_client, packet = heappop(queue)
            if step is not None:
                post(server.produced(step, step == len(steps) - 1, now), down, True)
            elif packet is not None and to_client:
                post(client.received(packet, now), up, False)
            elif packet is not None:
                post(server.received(packet, now), down, True)
        for party, link, is_server in ((server, down, True), (client, up, False)):
            due = party.deadline()
            if due is not None and due <= now:
                post(party.expire(now), link, is_server)
        run.rendered += [now] * (client.num_rendered - len(run.rendered))
        if run.is_complete and not run.ended_at:
            run.ended_at = now
            limit = min(limit, now + linger_s)
    return run
