"""One cell of the transport grid: every scheme on the same link, same seeds, same tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from headstart.benchmarks.channel_models import Bottleneck, Link, Loss, NoLoss
from headstart.benchmarks.datagram_schemes import OVERHEAD_BYTES, ours, published
from headstart.benchmarks.link_simulator import Client, Lane, Run, Server, simulate_lanes
from headstart.benchmarks.rival_transports import (
    TEXT_BYTES,
    InOrderClient,
    RetransmitServer,
    TimerDuplicationServer,
)
from headstart.benchmarks.stall_metrics import oracle_renders, stall_s, waiting_share

__all__ = [
    "SSE_SEGMENT_BYTES",
    "TEXT_BYTES",
    "TOKEN_BYTES",
    "UP_SEED",
    "Cell",
    "Outcome",
    "Scheme",
    "Score",
    "classic_retransmission",
    "copies_for",
    "duplication",
    "lossless",
    "ours",
    "published",
    "retransmission",
    "steady",
    "timer_duplication",
]

SSE_SEGMENT_BYTES = 304
"""A chunk of vLLM's chat stream, 230 bytes, with chunked framing, TLS record, TCP and IP."""
TOKEN_BYTES = OVERHEAD_BYTES + 22
"""One token in a datagram of its own: ours, with nothing repeated."""
_PATIENCE_S = 600.0
UP_SEED = 1_000_000
"""Added for the other direction: seeds of two sets must lie further apart."""

Scheme = Callable[[float, Sequence[int]], tuple[Server, Client]]
"""From the round trip in seconds and the tokens of each engine step."""


def retransmission(rtt_s: float, sizes: Sequence[int] = ()) -> tuple[Server, Client]:
    """SSE over TCP as Linux speaks it."""
    return RetransmitServer(rtt_s, SSE_SEGMENT_BYTES, sizes), InOrderClient()


def classic_retransmission(rtt_s: float, sizes: Sequence[int] = ()) -> tuple[Server, Client]:
    """SSE over TCP by RFC 5681 and 6298 alone, which an older simulator would have."""
    server = RetransmitServer(rtt_s, SSE_SEGMENT_BYTES, sizes, is_classic=True)
    return server, InOrderClient()


def duplication(copies: int) -> Scheme:
    """Every packet sent several times at once; what is lost all the same is retransmitted."""

    def scheme(rtt_s: float, sizes: Sequence[int]) -> tuple[Server, Client]:
        return RetransmitServer(rtt_s, TOKEN_BYTES, sizes, copies), InOrderClient()

    return scheme


def timer_duplication(copies: int) -> Scheme:
    """Duplication as the paper's figures suggest it: lost tokens are repeated every 200 ms."""

    def scheme(_rtt_s: float, _sizes: Sequence[int]) -> tuple[Server, Client]:
        return TimerDuplicationServer(TOKEN_BYTES, copies), InOrderClient()

    return scheme


def copies_for(bytes_per_step: float) -> int:
    """The smallest duplication, of two copies at least, that costs as many wire bytes."""
    return max(2, ceil(bytes_per_step / TOKEN_BYTES))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one answer was like; shares are of the answer's time."""

    stall: float
    excess: float
    """Stall beyond that of a sender that knows which packets will be lost."""
    paper_stall: float
    """By the paper's definition."""
    bytes_per_step: float
    num_datagrams: int
    num_lost: int
    span_s: float
    delays_s: Sequence[float]
    """Of each step, beyond the link's own, ascending."""
    is_complete: bool
    """Whether everything was shown; what was not after ten minutes counts as shown then."""
    up_bytes_per_step: float = 0.0
    """Acknowledgements, on the wire."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a scheme did in a cell; means over its answers."""

    stall: float
    excess: float
    paper_stall: float
    bytes_per_token: float
    datagrams_per_s: float
    loss: float
    """Share of downward packets that were lost."""
    p95_s: float
    """Of the render delay beyond the link's own."""
    max_s: float
    num_incomplete: int = 0
    """Answers that were given up."""
    up_bytes_per_token: float = 0.0

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], tokens_per_step: float = 1.0) -> "Score":
        """Sum answers up."""
        delays = sorted(delay for outcome in outcomes for delay in outcome.delays_s)
        num_datagrams = sum(outcome.num_datagrams for outcome in outcomes)
        return cls(
            fmean(outcome.stall for outcome in outcomes),
            fmean(outcome.excess for outcome in outcomes),
            fmean(outcome.paper_stall for outcome in outcomes),
            fmean(outcome.bytes_per_step for outcome in outcomes) / tokens_per_step,
            num_datagrams / sum(outcome.span_s for outcome in outcomes),
            sum(outcome.num_lost for outcome in outcomes) / num_datagrams,
            delays[int(0.95 * (len(delays) - 1))],
            delays[-1],
            sum(not outcome.is_complete for outcome in outcomes),
            fmean(outcome.up_bytes_per_step for outcome in outcomes) / tokens_per_step,
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """A link and a speaker."""

    loss: Callable[[int], Loss]
    """From a seed, for one direction."""
    rtt_s: float
    tokens: Sequence[float]
    """When each engine step gives its tokens, in seconds."""
    seeds: Sequence[int]
    sizes: Sequence[int] = ()
    """Tokens of each step; one where there is none."""
    up_bytes_per_s: float | None = None
    reorder: float = 0.0
    duplicate: float = 0.0
    jitter_s: float = 0.0
    down_bytes_per_s: float | None = None
    """Of all answers at once that share the way down, `sharing` of them."""
    sharing: int = 1

    def links(self, seed: int) -> tuple[Link, Link]:
        """Down and up; acknowledgements are lost too."""
        down, up = (
            Link(
                loss,
                self.rtt_s / 2,
                self.reorder,
                duplicate=self.duplicate,
                jitter_s=self.jitter_s,
                seed=link_seed,
            )
            for loss, link_seed in ((self.loss(seed), seed), (self.loss(seed + UP_SEED), -seed))
        )
        if self.up_bytes_per_s is not None:
            up.bottleneck = Bottleneck(self.up_bytes_per_s)
        if self.down_bytes_per_s is not None:
            down.bottleneck = Bottleneck(self.down_bytes_per_s, is_shared=self.sharing > 1)
        return down, up

    def outcomes(self, scheme: Scheme) -> list[Outcome]:
        """Run a scheme: one answer for each seed, at once those that share the way down."""
        firsts = range(0, len(self.seeds), self.sharing)
        together = [self.seeds[first : first + self.sharing] for first in firsts]
        return [outcome for seeds in together for outcome in self._outcomes(scheme, seeds)]

    def score(self, scheme: Scheme) -> Score:
        """Run a scheme and sum it up."""
        sizes = self.sizes or (1,)
        return Score.of(self.outcomes(scheme), fmean(sizes))

    def _outcomes(self, scheme: Scheme, seeds: Sequence[int]) -> list[Outcome]:
        links = [self.links(seed) for seed in seeds]
        for down, _ in links:
            down.bottleneck = links[0][0].bottleneck
        lanes = [
            Lane(*scheme(self.rtt_s, self.sizes), *both, self.tokens, _PATIENCE_S) for both in links
        ]
        runs = simulate_lanes(lanes)
        return [self._outcome(run, seed) for run, seed in zip(runs, seeds, strict=True)]

    def _outcome(self, run: Run, seed: int) -> Outcome:
        is_complete = run.is_complete
        num_missing = len(self.tokens) - len(run.rendered)
        run.rendered += [self.tokens[-1] + _PATIENCE_S] * num_missing
        one_way_s, span_s = self.rtt_s / 2, run.rendered[-1] - run.generated[0]
        stall = stall_s(run.generated, run.rendered, one_way_s) / span_s
        return Outcome(
            stall,
            stall - self._known_stall_s(run, seed) / span_s,
            waiting_share(run.rendered),
            run.down_bytes / len(self.tokens),
            run.down_packets,
            run.down_lost,
            span_s,
            run.delays(one_way_s),
            is_complete,
            run.up_bytes / len(self.tokens),
        )

    def _known_stall_s(self, run: Run, seed: int) -> float:
        shown = oracle_renders(run.generated, self.loss(seed), self.rtt_s / 2)
        return stall_s(run.generated, shown, self.rtt_s / 2)


def steady(tokens_per_s: float, seconds: float) -> list[float]:
    """A token every so often."""
    return [0.01 + index / tokens_per_s for index in range(int(tokens_per_s * seconds))]


def lossless(seed: int) -> Loss:
    """No loss, whatever the seed."""
    return NoLoss()
