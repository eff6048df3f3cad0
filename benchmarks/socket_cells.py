"""The cells that are run on real sockets: few, since they take their time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from headstart.benchmarks.channel_models import Blackouts, Link, Loss, NoLoss, RandomLoss
from headstart.benchmarks.channel_models import gilbert_elliott as chain
from headstart.benchmarks.transport_cells import Cell, lossless, steady
from headstart.benchmarks.transport_grid import SCORING_SEEDS, TUNING_SEEDS, Group, Setting

__all__ = ["TOKENS_PER_S", "SocketSample", "links", "settings", "shipped_settings"]

TOKENS_PER_S = 50.0
SHARING = 16
"""Answers at once in a block of a full run."""
DARK = (1.5, 6.5)
"""Both directions, seconds after the request."""
SHARED_BYTES_PER_S = 250_000.0
"""Two Mbit/s, of which sixteen event streams take nine tenths where nothing is lost."""
JITTER_S = 0.03
_APART = 500_000
"""From the simulator's seeds, which are below."""


@dataclass(frozen=True, slots=True)
class SocketSample:
    """How much is run on real sockets."""

    seed_base: int
    num_blocks: int
    """Of every arm, in each cell."""
    num_lanes: int
    """Answers at once, in a block."""
    answer_s: float
    patience_s: float
    """Beyond the answer's own time; what was not shown by then counts as shown then."""
    is_whole_grid: bool
    num_exact: int
    """Answers through faults."""
    soak_s: float

    @classmethod
    def full(cls) -> "SocketSample":
        """Everything, on seeds that nothing was tuned on."""
        return cls(SCORING_SEEDS + _APART, 2, SHARING, 4.0, 12.0, True, 128, 600.0)

    @classmethod
    def quick(cls) -> "SocketSample":
        """A few cells."""
        return cls(TUNING_SEEDS + _APART, 1, 10, 3.0, 8.0, False, 24, 30.0)

    @property
    def num_tokens(self) -> int:
        """Of an answer."""
        return int(self.answer_s * TOKENS_PER_S)

    def seeds(self, block: int) -> Sequence[int]:
        """One for each lane."""
        start = self.seed_base + block * self.num_lanes
        return range(start, start + self.num_lanes)


def settings(sample: SocketSample) -> list[Setting]:
    """The cells of a run."""
    names = _cells() if sample.is_whole_grid else _QUICK
    return [_cells()[name] for name in names]


def shipped_settings(sample: SocketSample) -> list[Setting]:
    """Those in which whole clients are measured."""
    names = _SHIPPED if sample.is_whole_grid else _SHIPPED[:2]
    return [_cells()[name] for name in names]


def links(name: str, seed: int) -> tuple[Link, Link]:
    """The weather of one answer of a cell: down and up."""
    return _cells()[name].cell.links(seed)


_CLEAN = ("no loss", Group.CLEAN)
_RANDOM = ((0.02, (10,)), (0.05, (5, 20)), (0.1, (0, 5, 10)), (0.3, (0, 10, 20)))
"""Round trips, and the losses at each in percent: few, for each takes a minute of five arms."""
_QUICK = (
    "no loss, RTT 100 ms",
    "random 10 %, RTT 100 ms",
    "random 20 %, RTT 300 ms",
)


_SHIPPED = ("no loss, RTT 100 ms", "random 10 %, RTT 100 ms", "random 5 %, RTT 50 ms")


@cache
def _cells() -> dict[str, Setting]:
    found: list[Setting] = []
    for rtt_s, percents in _RANDOM:
        for percent in percents:
            what, group = (f"random {percent} %", Group.LOSSY) if percent else _CLEAN
            found.append(_setting(what, group, Cell(_random(percent / 100), rtt_s, _TOKENS, ())))
    bursts = [Cell(_bursts, rtt_s, _TOKENS, ()) for rtt_s in (0.1, 0.3)]
    found += [_setting("bursts 3/40/95", Group.LOSSY, cell) for cell in bursts]
    found.append(_setting("dark for 5 s", Group.BLACKOUT, Cell(_dark, 0.1, _TOKENS, ())))
    shared = Cell(
        _random(0.05),
        0.1,
        _TOKENS,
        (),
        jitter_s=JITTER_S,
        down_bytes_per_s=SHARED_BYTES_PER_S,
        sharing=SHARING,
    )
    found.append(_setting("2 Mbit/s shared, jitter, 5 %", Group.SHARED, shared))
    return {setting.name: setting for setting in found}


_TOKENS = steady(TOKENS_PER_S, 1.0)
"""Only their pace counts here: real engines say when tokens were made."""


def _setting(what: str, group: Group, cell: Cell) -> Setting:
    return Setting(f"{what}, RTT {1e3 * cell.rtt_s:.0f} ms", group, cell)


def _random(probability: float) -> Callable[[int], Loss]:
    if not probability:
        return lossless

    def weather(seed: int) -> Loss:
        return RandomLoss(probability, seed)

    return weather


def _bursts(seed: int) -> Loss:
    return chain(0.03, 0.4, 0.95, seed)


def _dark(_seed: int) -> Loss:
    return Blackouts([DARK], NoLoss())
