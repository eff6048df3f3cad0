"""One cell of the transport grid: every scheme on the same link, same seeds, same tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from headstart.benchmarks.channel_models import Link, Loss, NoLoss
from headstart.benchmarks.datagram_schemes import OVERHEAD_BYTES, ours, published
from headstart.benchmarks.link_simulator import Client, Run, Server, simulate
from headstart.benchmarks.rival_transports import (
    InOrderClient,
    RetransmitServer,
    TimerDuplicationServer,
)
from headstart.benchmarks.stall_metrics import oracle_renders, stall_s, waiting_share

__all__ = [
    "SSE_SEGMENT_BYTES",
    "Cell",
    "Score",
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

Scheme = Callable[[float], tuple[Server, Client]]
"""From the round trip in seconds."""


def retransmission(rtt_s: float) -> tuple[Server, Client]:
    """SSE over TCP."""
    return RetransmitServer(rtt_s, SSE_SEGMENT_BYTES), InOrderClient()


def duplication(copies: int) -> Scheme:
    """Every packet sent several times at once; what is lost all the same is retransmitted."""
    return lambda rtt_s: (RetransmitServer(rtt_s, TOKEN_BYTES, copies), InOrderClient())


def timer_duplication(copies: int) -> Scheme:
    """Duplication as the paper's figures suggest it: lost tokens are repeated every 200 ms."""
    return lambda rtt_s: (TimerDuplicationServer(TOKEN_BYTES, copies), InOrderClient())


def copies_for(bytes_per_token: float) -> int:
    """The smallest duplication, of two copies at least, that costs as many wire bytes."""
    return max(2, ceil(bytes_per_token / TOKEN_BYTES))


@dataclass(frozen=True, slots=True)
class Score:
    """What a scheme did in a cell; shares are of an answer's time, means over its runs."""

    stall: float
    excess: float
    """Stall beyond that of a sender that knows which packets will be lost."""
    paper_stall: float
    """By the paper's definition."""
    bytes_per_token: float
    datagrams_per_s: float
    loss: float
    """Share of downward packets that were lost."""
    p95_s: float
    """Of the render delay beyond the link's own."""
    max_s: float


@dataclass(frozen=True, slots=True)
class Cell:
    """A link and a speaker."""

    loss: Callable[[int], Loss]
    """From a seed, for one direction."""
    rtt_s: float
    tokens: Sequence[float]
    """When each token is made, in seconds."""
    seeds: Sequence[int]

    def links(self, seed: int) -> tuple[Link, Link]:
        """Down and up; acknowledgements are lost too."""
        down, up = self.loss(seed), self.loss(seed + 1_000_000)
        return Link(down, self.rtt_s / 2, seed=seed), Link(up, self.rtt_s / 2, seed=-seed)

    def runs(self, scheme: Scheme) -> list[Run]:
        """One answer for each seed."""
        return [
            simulate(*scheme(self.rtt_s), *self.links(seed), self.tokens) for seed in self.seeds
        ]

    def score(self, scheme: Scheme) -> Score:
        """Run a scheme and sum it up.

        Raises:
            AssertionError: An answer did not arrive whole.
        """
        runs, one_way_s = self.runs(scheme), self.rtt_s / 2
        assert all(run.is_complete for run in runs)
        spans = [run.rendered[-1] - run.generated[0] for run in runs]
        stalls = [stall_s(run.generated, run.rendered, one_way_s) for run in runs]
        perfect = [
            oracle_renders(run.generated, self.loss(seed), one_way_s)
            for run, seed in zip(runs, self.seeds, strict=True)
        ]
        oracles = [stall_s(self.tokens, shown, one_way_s) for shown in perfect]
        stall = fmean(stall / span for stall, span in zip(stalls, spans, strict=True))
        known = fmean(stall / span for stall, span in zip(oracles, spans, strict=True))
        delays = sorted(delay for run in runs for delay in run.delays(one_way_s))
        num_tokens = len(self.tokens) * len(runs)
        num_packets = sum(run.down_packets for run in runs)
        return Score(
            stall,
            stall - known,
            fmean(waiting_share(run.rendered) for run in runs),
            sum(run.down_bytes for run in runs) / num_tokens,
            num_packets / sum(spans),
            sum(run.down_lost for run in runs) / num_packets,
            delays[int(0.95 * (len(delays) - 1))],
            delays[-1],
        )


def steady(tokens_per_s: float, seconds: float) -> list[float]:
    """A token every so often."""
    return [0.01 + index / tokens_per_s for index in range(int(tokens_per_s * seconds))]


def lossless(seed: int) -> Loss:
    """No loss, whatever the seed."""
    return NoLoss()
