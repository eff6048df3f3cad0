"""The cells of `headstart bench transport`: what networks and what speakers.

Seeds: the policy was tuned on small numbers, which the tests and `--quick` go on using. A full run
scores on numbers that nothing was tuned on. Whoever tunes on what a full run has said must move
`SCORING_SEEDS` to a base that no run has used; `UNSEEN_SEEDS` is kept for that, once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from headstart.benchmarks.channel_models import (
    Blackouts,
    Loss,
    NoLoss,
    RandomLoss,
    StateLoss,
    gilbert_elliott,
)
from headstart.benchmarks.datagram_schemes import coded_bytes_per_step
from headstart.benchmarks.transport_cells import UP_SEED, Cell, lossless, steady

__all__ = [
    "ABLATION_SEEDS",
    "PAPER_CHANNELS",
    "PAPER_LOSSES",
    "PAPER_STEP_S",
    "PAYLOAD_BYTES",
    "SCORING_SEEDS",
    "TUNING_SEEDS",
    "UNSEEN_SEEDS",
    "Group",
    "Sample",
    "Setting",
    "paper_channel",
    "paper_settings",
    "wide_settings",
]

TUNING_SEEDS = 0
SCORING_SEEDS = 9_300_000_000
UNSEEN_SEEDS = 6_900_000_000
ABLATION_SEEDS = 8_500_000_000

_SEEDS_APART = 100_000_000
"""Any two of them, and more."""

PAYLOAD_BYTES = 1_150
"""Of `SenderLimits`."""
PAPER_STEP_S = 0.1
PAPER_LOSS_IN_BAD = 0.9
PAPER_CHANNELS = {"default": (0.9, 0.5), "often": (0.5, 0.5), "long": (0.9, 0.8)}
"""Probabilities of *staying* in the good and in the bad state, which the paper calls p and q."""
PAPER_LOSSES = {"default": 0.15, "often": 0.45, "long": 0.3}

Weather = Callable[[int], Loss]


class Group(StrEnum):
    """Which bars hold for a cell; values go into tables."""

    PAPER = "paper"
    LOSSY = "lossy"
    """At least 5 % lost, and the un-acked window fits one payload: all bars."""
    LIGHT = "light"
    """Less than 5 % lost."""
    CLEAN = "clean"
    OVERFLOW = "overflow"
    """The un-acked window does not fit one payload."""
    BLACKOUT = "blackout"
    THIN = "thin uplink"
    REORDER = "reordering"
    SHARED = "shared downlink"
    """Several answers meet in one queue, as on the real link only: no bar."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A named cell and the bars that it is for."""

    name: str
    group: Group
    cell: Cell


@dataclass(frozen=True, slots=True)
class Sample:
    """How much of the grid is run."""

    seed_base: int
    num_paper_sessions: int
    num_answers: int
    answer_s: float
    is_whole_grid: bool

    @classmethod
    def full(cls) -> "Sample":
        """Everything, on seeds that nothing was tuned on."""
        return cls(SCORING_SEEDS, 30, 20, 8.0, is_whole_grid=True)

    @classmethod
    def quick(cls) -> "Sample":
        """Some of every group, on the seeds that the policy knows."""
        return cls(TUNING_SEEDS, 10, 8, 8.0, is_whole_grid=False)

    def seeds(self, count: int) -> range:
        """The first so many."""
        return range(self.seed_base, self.seed_base + count)


def paper_channel(stay_good: float, stay_bad: float) -> Weather:
    """The paper's two states, which may change every 100 ms."""
    return lambda seed: StateLoss(PAPER_STEP_S, stay_good, stay_bad, PAPER_LOSS_IN_BAD, seed)


def paper_settings(sample: Sample) -> list[Setting]:
    """A token each 100 ms for 30 s, three channels, two round trips."""
    tokens = [PAPER_STEP_S * index for index in range(300)]
    seeds = sample.seeds(sample.num_paper_sessions)
    names = PAPER_CHANNELS if sample.is_whole_grid else ("default",)
    return [
        Setting(
            f"{name} channel, RTT {1e3 * rtt_s:.0f} ms",
            Group.PAPER,
            Cell(paper_channel(*PAPER_CHANNELS[name]), rtt_s, tokens, seeds),
        )
        for name in names
        for rtt_s in (0.4, 0.1)
    ]


@dataclass(frozen=True, slots=True)
class _Weather:
    name: str
    loss: float
    burst_s: float
    """Mean length of a burst of losses."""
    at: Weather


_WEATHERS = (
    _Weather("random 1 %", 0.01, 0.0, lambda seed: RandomLoss(0.01, seed)),
    _Weather("random 5 %", 0.05, 0.0, lambda seed: RandomLoss(0.05, seed)),
    _Weather("random 10 %", 0.1, 0.0, lambda seed: RandomLoss(0.1, seed)),
    _Weather("random 20 %", 0.2, 0.0, lambda seed: RandomLoss(0.2, seed)),
    _Weather("mild 1/30/70", 0.023, 0.067, lambda seed: gilbert_elliott(0.01, 0.3, 0.7, seed)),
    _Weather("bursts 3/40/95", 0.066, 0.05, lambda seed: gilbert_elliott(0.03, 0.4, 0.95, seed)),
    _Weather("bursts of 8", 0.15, 0.16, lambda seed: gilbert_elliott(0.022, 0.125, 1.0, seed)),
)
"""Gilbert-Elliott: good to bad / bad to good / lost in bad, in percent, for each slot of 20 ms."""
_LONG_BURSTS = _Weather(
    "bursts of 25", 0.11, 0.5, lambda seed: gilbert_elliott(0.005, 0.04, 1, seed)
)
_QUICK_WEATHERS = ("random 5 %", "random 20 %", "bursts 3/40/95", "bursts of 8")


def wide_settings(sample: Sample) -> list[Setting]:
    """Everything else."""
    is_whole = sample.is_whole_grid
    rtts_s = (0.02, 0.05, 0.1, 0.3, 0.45) if is_whole else (0.05, 0.3)
    rates = (20, 100, 200) if is_whole else (20, 100)
    weathers = [weather for weather in _WEATHERS if is_whole or weather.name in _QUICK_WEATHERS]
    seeds = sample.seeds(sample.num_answers)
    settings = [
        _steady(weather, rtt_s, rate, sample)
        for weather in weathers
        for rtt_s in rtts_s
        for rate in rates
    ]
    settings += [
        _bursty(weather, rtt_s, rate, sample)
        for weather in weathers
        if weather.name in ("random 10 %", "bursts 3/40/95", "random 20 %")
        for rtt_s in (0.05, 0.3)
        for rate in (30, 100)
    ]
    settings += [_steady(_LONG_BURSTS, rtt_s, 200, sample) for rtt_s in (0.3, 0.45)]
    settings += [_bursty(weather, 0.45, 400, sample) for weather in weathers[-2:]]
    settings += [
        Setting(
            _name("no loss", rtt_s, rate),
            Group.CLEAN,
            Cell(lossless, rtt_s, steady(rate, sample.answer_s), seeds[:1]),
        )
        for rtt_s in rtts_s
        for rate in rates
    ]
    return settings + _blackouts(seeds, is_whole) + _thin_and_reordered(seeds, sample.answer_s)


def _name(what: str, rtt_s: float, rate: float) -> str:
    return f"{what}, RTT {1e3 * rtt_s:.0f} ms, {rate:g} tok/s"


def _steady(weather: _Weather, rtt_s: float, rate: int, sample: Sample) -> Setting:
    cell = Cell(weather.at, rtt_s, steady(rate, sample.answer_s), sample.seeds(sample.num_answers))
    return Setting(_name(weather.name, rtt_s, rate), _group(weather, cell), cell)


def _bursty(weather: _Weather, rtt_s: float, rate: int, sample: Sample) -> Setting:
    """Steps of one to nine tokens, as speculation gives them, `rate` tokens a second."""
    tokens = steady(rate / 5, sample.answer_s)
    random = Random(rate)  # noqa: S311 a speaker, not a secret
    sizes = [random.randint(1, 9) for _ in tokens]
    cell = Cell(weather.at, rtt_s, tokens, sample.seeds(sample.num_answers), sizes)
    name = _name(f"{weather.name}, steps of 1-9", rtt_s, rate)
    return Setting(name, _group(weather, cell), cell)


def _group(weather: _Weather, cell: Cell) -> Group:
    """By the bytes that a sender has un-acked: of a round trip and of a burst of losses."""
    steps_per_s = len(cell.tokens) / (cell.tokens[-1] - cell.tokens[0])
    window_s = cell.rtt_s + weather.burst_s
    if coded_bytes_per_step(cell.sizes) * steps_per_s * window_s > PAYLOAD_BYTES:
        return Group.OVERFLOW
    return Group.LOSSY if weather.loss >= 0.05 else Group.LIGHT


def _blackouts(seeds: Sequence[int], is_whole: bool) -> list[Setting]:
    def weather(dark_s: float) -> Weather:
        def at(seed: int) -> Loss:
            # Both directions go dark together, so the moment depends on what their seeds share.
            shared = (seed // _SEEDS_APART, seed % UP_SEED)
            start = 4.0 + Random(str(shared)).random()  # noqa: S311 weather
            return Blackouts([(start, start + dark_s)], NoLoss())

        return at

    return [
        Setting(
            _name(f"dark for {dark_s:g} s", rtt_s, rate),
            Group.BLACKOUT,
            Cell(weather(dark_s), rtt_s, steady(rate, 7 + dark_s), seeds),
        )
        for dark_s in (0.2, 1.0, 5.0)
        for rtt_s in ((0.05, 0.1, 0.3) if is_whole else (0.05, 0.3))
        for rate in ((20, 50, 100) if is_whole else (50,))
    ]


def _thin_and_reordered(seeds: Sequence[int], answer_s: float) -> list[Setting]:
    random_5 = next(weather for weather in _WEATHERS if weather.name == "random 5 %")
    settings: list[Setting] = []
    for rtt_s in (0.05, 0.3):
        for rate in (50, 100):
            tokens = steady(rate, answer_s)
            thin = Cell(random_5.at, rtt_s, tokens, seeds, up_bytes_per_s=8_000)
            settings.append(Setting(_name("64 kbit/s up, 5 %", rtt_s, rate), Group.THIN, thin))
            mixed = Cell(random_5.at, rtt_s, tokens, seeds, reorder=0.03, duplicate=0.01)
            name = _name("3 % reordered, 5 %", rtt_s, rate)
            settings.append(Setting(name, Group.REORDER, mixed))
    return settings
