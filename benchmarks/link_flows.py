"""Which packets belong to which answer, and what the weather of each does to them. No IO.

Every answer on a real link has a `Link` of its own in each direction, as in the simulator, with the
same seeds: answers do not meet each other's losses; they share a queue where their cell says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from headstart.benchmarks.channel_models import Bottleneck, Link

__all__ = ["Direction", "Flow", "Flows", "Key", "Others", "Passed", "key_of"]

Direction = Literal["up", "down"]
"""To the server and to the client."""
Key = tuple[int, int]
"""IP protocol, and the client's port."""
Links = Callable[[str, int], tuple[Link, Link]]
"""Down and up, by a cell's name and a seed."""

_MIN_HEADER_BYTES = 20
_PORTS_BYTES = 4
TCP, UDP = 6, 17


class Flow(msgspec.Struct, frozen=True):
    """An answer's weather."""

    protocol: int
    port: int
    """The client's."""
    cell: str
    seed: int
    epoch: float
    """When it begins, on the monotonic clock; nothing is lost before."""

    @property
    def key(self) -> Key:
        return self.protocol, self.port


class Others(msgspec.Struct, frozen=True):
    """The weather of flows whose ports nobody knows beforehand: a browser's connections.

    Each meets its own, by seeds that count up as they appear, and each from the same moment on.
    """

    cell: str
    seed: int
    epoch: float


class Passed(msgspec.Struct):
    """What crossed the link for one answer since its weather began; bytes with IP headers."""

    protocol: int
    port: int
    down_packets: int = 0
    down_bytes: int = 0
    down_lost: int = 0
    up_packets: int = 0
    up_bytes: int = 0


def key_of(packet: bytes, direction: Direction) -> Key | None:
    """Read whose packet it is; None unless it is a TCP or UDP packet of IPv4."""
    if len(packet) < _MIN_HEADER_BYTES or packet[0] >> 4 != 4 or packet[9] not in (TCP, UDP):
        return None
    header_bytes = 4 * (packet[0] & 15)
    if len(packet) < header_bytes + _PORTS_BYTES:
        return None
    first = header_bytes + (0 if direction == "up" else 2)
    return packet[9], int.from_bytes(packet[first : first + 2], "big")


@dataclass(slots=True)
class _Open:
    epoch: float
    down: Link
    up: Link
    passed: Passed


class Flows:
    """Every answer that is on its way.

    Args:
        links: Makes the weather.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._open: dict[Key, _Open] = {}
        self._others: Others | None = None
        self._shared: dict[str, Bottleneck] = {}
        """By cell."""
        self.delay_s = 0.0
        """One way, of packets of no answer and of those before an answer's weather begins."""

    def begin(self, flows: list[Flow], delay_s: float, others: Others | None = None) -> None:
        """Forget the answers before, and expect these."""
        self.delay_s = delay_s
        self._others = others
        self._open.clear()
        self._shared.clear()
        for flow in flows:
            self._expect(flow.key, flow.cell, flow.seed, flow.epoch)

    def _expect(self, key: Key, cell: str, seed: int, epoch: float) -> _Open:
        down, up = self._links(cell, seed)
        if down.bottleneck is not None and down.bottleneck.is_shared:
            down.bottleneck = self._shared.setdefault(cell, down.bottleneck)
        self._open[key] = opened = _Open(epoch, down, up, Passed(*key))
        return opened

    def arrivals(self, key: Key, direction: Direction, size_bytes: int, now: float) -> list[float]:
        """When a packet that was sent now arrives: not at all, once or twice."""
        flow = self._open.get(key)
        if flow is None and (others := self._others) is not None and now >= others.epoch:
            flow = self._expect(key, others.cell, others.seed + len(self._open), others.epoch)
        if flow is None or now < flow.epoch:
            return [now + self.delay_s]
        link = flow.down if direction == "down" else flow.up
        found = [flow.epoch + at for at in link.arrivals(now - flow.epoch, size_bytes)]
        passed = flow.passed
        if direction == "down":
            passed.down_packets += 1
            passed.down_bytes += size_bytes
            passed.down_lost += not found
        else:
            passed.up_packets += 1
            passed.up_bytes += size_bytes
        return found

    def passed(self) -> list[Passed]:
        """What crossed the link for each answer."""
        return [flow.passed for flow in self._open.values()]
