"""Two machines, a link and a clock that jumps: answers streamed in virtual time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Protocol

from headstart.benchmarks.channel_models import Link

__all__ = ["Client", "Lane", "Packet", "Party", "Run", "Server", "simulate", "simulate_lanes"]

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


class Lane:
    """One answer on its way.

    Args:
        steps: When each engine step gives its tokens, in seconds, ascending.
        patience_s: Give up so long after the last.
        linger_s: Go on so long after all is shown: what is sent then counts too.
    """

    def __init__(
        self,
        server: Server,
        client: Client,
        down: Link,
        up: Link,
        steps: Sequence[float],
        patience_s: float = 600.0,
        linger_s: float = 2.0,
    ) -> None:
        self.run = Run(list(steps))
        self._server, self._client, self._down, self._up = server, client, down, up
        self._linger_s, self._limit = linger_s, steps[-1] + patience_s
        self._order = count()
        self._queue: list[tuple[float, int, int | None, bool, Packet | None]] = [
            (at, next(self._order), index, True, None) for index, at in enumerate(steps)
        ]
        self._now, self._num_steps = 0.0, 0

    @property
    def next_at(self) -> float | None:
        """When something happens next; None when it is over."""
        moments = [
            at for at in (self._server.deadline(), self._client.deadline()) if at is not None
        ]
        if self._queue:
            moments.append(self._queue[0][0])
        if not moments or (later := max(self._now, min(moments))) > self._limit:
            return None
        return later

    def step(self, now: float) -> None:
        """Have it happen."""
        self._num_steps = self._num_steps + 1 if now == self._now else 0
        assert self._num_steps < _MAX_INSTANT, "a machine asks to be woken for nothing"
        self._now = now
        if self._queue and self._queue[0][0] <= now:
            self._arrive(*heappop(self._queue)[2:])
        for party, is_server in ((self._server, True), (self._client, False)):
            due = party.deadline()
            if due is not None and due <= now:
                self._post(party.expire(now), to_client=is_server)
        run = self.run
        run.rendered += [now] * (self._client.num_rendered - len(run.rendered))
        if run.is_complete and not run.ended_at:
            run.ended_at = now
            self._limit = min(self._limit, now + self._linger_s)

    def _arrive(self, step: int | None, to_client: bool, packet: Packet | None) -> None:
        now = self._now
        if step is not None:
            is_last = step == len(self.run.generated) - 1
            self._post(self._server.produced(step, is_last, now), to_client=True)
        elif packet is not None and to_client:
            self._post(self._client.received(packet, now), to_client=False)
        elif packet is not None:
            self._post(self._server.received(packet, now), to_client=True)

    def _post(self, packets: list[Packet], *, to_client: bool) -> None:
        link = self._down if to_client else self._up
        for packet in packets:
            arrivals = link.arrivals(self._now, packet.size_bytes)
            if to_client:
                self.run.down_bytes += packet.size_bytes
                self.run.down_packets += 1
                self.run.down_lost += not arrivals
            else:
                self.run.up_bytes += packet.size_bytes
            for at in arrivals:
                heappush(self._queue, (at, next(self._order), None, to_client, packet))


def simulate(lane: Lane) -> Run:
    """Stream one answer by itself."""
    (run,) = simulate_lanes([lane])
    return run


def simulate_lanes(lanes: Sequence[Lane]) -> list[Run]:
    """Stream several at once: they meet where their links share a bottleneck."""
    nexts = [(at, index) for index, lane in enumerate(lanes) if (at := lane.next_at) is not None]
    heapify(nexts)
    while nexts:
        now, index = nexts[0]
        lanes[index].step(now)
        if (later := lanes[index].next_at) is None:
            heappop(nexts)
        else:
            heapreplace(nexts, (later, index))
    return [lane.run for lane in lanes]
