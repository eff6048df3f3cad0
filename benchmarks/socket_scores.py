"""What an answer on a real link was like, by the measures that the simulator uses."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from headstart.benchmarks.link_flows import Passed
from headstart.benchmarks.socket_cells import TOKENS_PER_S, SocketSample
from headstart.benchmarks.socket_orders import Made
from headstart.benchmarks.socket_readers import Shown
from headstart.benchmarks.stall_metrics import oracle_renders, stall_s, waiting_share
from headstart.benchmarks.transport_cells import Outcome, steady
from headstart.benchmarks.transport_grid import Setting

__all__ = ["Answer", "Block", "scored", "times"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, scored."""

    outcome: Outcome
    gaps_s: Sequence[float]
    """Between two moments at which more could be shown."""
    up_bytes: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Block:
    """One arm's answers, all at once."""

    answers: Sequence[Answer]
    late_p99_s: float
    num_swallowed: int
    load: float
    """Average over a minute, at the end."""
    others_cores: float
    """Cores that processes other than the benchmark's own had busy meanwhile."""


def times(
    shown: Shown, made: Made, epoch: float, sample: SocketSample
) -> tuple[list[float], list[float]]:
    """When each token was made and when it was shown, in seconds since the answer was asked for.

    What was never shown counts as shown when the reader gave up, and so does all of an answer of
    which nothing came; its tokens are taken to have been made at their pace.
    """
    given_up = sample.num_tokens / TOKENS_PER_S + sample.patience_s
    generated = [at - epoch for at in made.at] or steady(TOKENS_PER_S, sample.answer_s)
    arrivals = [at - epoch for at in shown.at]
    arrivals.append(max(given_up, generated[-1]))
    rendered = [arrivals[bisect_left(shown.tokens, number + 1)] for number in range(len(generated))]
    return generated, rendered


def scored(
    setting: Setting,
    seed: int,
    shown: Shown,
    made: Made,
    passed: Passed,
    epoch: float,
    sample: SocketSample,
) -> Answer:
    """Score one answer, by the same measures as in virtual time."""
    generated, rendered = times(shown, made, epoch, sample)
    one_way_s, span_s = setting.cell.rtt_s / 2, rendered[-1] - generated[0]
    stall = stall_s(generated, rendered, one_way_s) / span_s
    known = oracle_renders(generated, setting.cell.loss(seed), one_way_s)
    outcome = Outcome(
        stall,
        stall - stall_s(generated, known, one_way_s) / span_s,
        waiting_share(rendered),
        passed.down_bytes / len(generated),
        passed.down_packets,
        passed.down_lost,
        span_s,
        sorted(late - at - one_way_s for at, late in zip(generated, rendered, strict=True)),
        shown.is_whole,
    )
    moments = sorted(set(rendered))
    gaps_s = [after - before for before, after in pairwise(moments)]
    return Answer(outcome, gaps_s, passed.up_bytes, len(generated))
