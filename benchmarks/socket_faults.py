"""What happens to answers on real sockets: bad paths, and worse in the middle of an answer."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from headstart.benchmarks.channel_models import Link, Loss, NoLoss, RandomLoss, gilbert_elliott
from headstart.benchmarks.link_flows import Direction
from headstart.stages.carrier_ladder import Rung

__all__ = ["ALONE", "Case", "Fault", "Path", "Restart", "Result"]


class Fault(StrEnum):
    """What happens in the middle of an answer, on a path that is bad all the while."""

    NONE = "nothing more"
    DARK = "blackout of 5 s"
    REBIND = "NAT rebinding"
    BLOCKED = "UDP blocked for good"
    TWO = "two readers"
    STOP_HERE = "stopped by its reader"
    STOP_THERE = "stopped by somebody else"
    RESTART = "gateway restarted"


ALONE = tuple(fault for fault in Fault if fault is not Fault.RESTART)
"""What happens to one answer and not to its neighbours."""


@dataclass(frozen=True, slots=True)
class Case:
    """One answer's path and fate, drawn from a number."""

    seed: int
    fault: Fault
    num_tokens: int
    after: int
    """Tokens before it happens, and the answer is read by datagrams alone by then."""

    @classmethod
    def drawn(cls, seed: int, fault: Fault) -> "Case":
        """Draw one."""
        random = Random(seed)  # noqa: S311 weather, not a secret
        # Long enough that datagrams carry it before its end on the worst of the paths.
        num_tokens = random.randint(150, 250)
        return cls(seed, fault, num_tokens, random.randint(3, num_tokens // 3))

    @property
    def prompt(self) -> str:
        """Few different ones."""
        return f"Tell me about number {self.seed % 32}."

    @property
    def body(self) -> dict[str, Any]:
        """Fields of the request."""
        return {
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.num_tokens,
        }

    def link(self, salt: int) -> Link:
        """One direction of its path."""
        random = Random(f"{self.seed} {salt}")  # noqa: S311 weather
        number = self.seed + salt
        losses: tuple[Loss, ...] = (
            NoLoss(),
            RandomLoss(random.uniform(0.02, 0.3), number),
            gilbert_elliott(0.03, 0.3, 0.95, number),
        )
        return Link(
            random.choice(losses),
            random.choice((0.001, 0.02, 0.06)),
            reorder=random.choice((0.0, 0.05, 0.3)),
            duplicate=random.choice((0.0, 0.05, 0.3)),
            seed=number,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one answer."""

    case: Case
    problem: str | None
    """None where every byte is right."""
    seconds: float
    is_struck: bool
    """Whether its fault came upon it while datagrams carried it."""
    last_rungs: frozenset[Rung]
    """Ways by which its last chunk came."""
    num_lost: int


class Restart:
    """Restarts a gateway once, when all of a group are amid their answers or past them.

    Args:
        size: Of the group.
        restart: Kills it, and returns when the next one stands.
    """

    def __init__(self, size: int, restart: Callable[[], Awaitable[object]]) -> None:
        self._waited_for = set(range(size))
        self._restart = restart

    async def amid(self, number: int) -> None:
        """One of the group is."""
        if number not in self._waited_for:
            return
        self._waited_for.discard(number)
        if not self._waited_for:
            await self._restart()


class Path:
    """Both directions of a case's path, for a relay; it may go dark."""

    def __init__(self, case: Case) -> None:
        self.is_dark = False
        self.num_lost = 0
        self._links = {"down": case.link(1), "up": case.link(2)}
        self._began = time.monotonic()

    def arrivals(
        self, _client: tuple[str, int], direction: Direction, size_bytes: int, now: float
    ) -> list[float]:
        found = self._links[direction].arrivals(now - self._began, size_bytes)
        if self.is_dark or not found:
            self.num_lost += 1
            return []
        return [self._began + at for at in found]
