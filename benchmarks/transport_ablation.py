"""What each mechanism of the sender is good for: the default with one of them off at a time.

Virtual time, on seeds of its own that nothing was tuned on.
"""

from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm  # type: ignore[import-untyped]

from headstart.benchmarks.channel_models import Blackouts, Loss, NoLoss, RandomLoss
from headstart.benchmarks.channel_models import gilbert_elliott as chain
from headstart.benchmarks.datagram_schemes import STREAM, DatagramClient, DatagramServer
from headstart.benchmarks.report import Table
from headstart.benchmarks.transport_cells import Cell, Scheme, Score, steady
from headstart.benchmarks.transport_grid import ABLATION_SEEDS, TUNING_SEEDS, Sample
from headstart.stages.congestion import TokenCongestion
from headstart.stages.datagram_events import CatchUp, Cause
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.datagram_sender import DatagramSender, SenderLimits
from headstart.stages.repeat_policy import RepeatPolicy
from headstart.stages.token_log import TokenLog

__all__ = ["VARIANTS", "ablation", "cells"]

NUM_ANSWERS, NUM_QUICK_ANSWERS = 12, 2
_NO_PACE = SenderLimits(min_frame_s=0.0, max_frame_s=0.0)


class _NoProbes(RepeatPolicy):
    """What a lost tail waits for is the heartbeat."""

    def backed_off_s(self, first_s: float, num_probes: int) -> float:
        return float("inf")


class _NoRepeats(RepeatPolicy):
    """Nothing is sent between two new texts but probes."""

    def repeat_at(self) -> float | None:
        return None


class _NewTextAlone(DatagramSender):
    """No datagram with new text repeats older text; repeats and probes do."""

    def _base(self, cause: Cause, room: int, now: float) -> int:
        base = super()._base(cause, room, now)
        return max(base, self._sent_until) if cause is Cause.NEW and self._has_news else base


class _NoStream(DatagramSender):
    """What no two datagrams can carry goes in as many as it takes."""

    def _open_catch_up(self, now: float, max_payloads: int) -> Iterator[CatchUp]:
        return iter(())


def _scheme(
    sender: type[DatagramSender] = DatagramSender,
    policy: Callable[[], RepeatPolicy] = RepeatPolicy,
    limits: SenderLimits | None = None,
) -> Scheme:
    def scheme(rtt_s: float, sizes: Sequence[int]) -> tuple[DatagramServer, DatagramClient]:
        log = TokenLog(1 << 24)
        machine = sender(STREAM, log, limits=limits, rtt_s=rtt_s)
        machine.policy = policy()
        server = DatagramServer(machine, log, rtt_s, TokenCongestion(rtt_s), sizes)
        return server, DatagramClient(DatagramReceiver(STREAM))

    return scheme


VARIANTS: dict[str, Scheme] = {
    "default": _scheme(),
    "no redundancy": _scheme(_NewTextAlone),
    "no repeats while idle": _scheme(policy=_NoRepeats),
    "no probes": _scheme(policy=_NoProbes),
    "no pacing": _scheme(limits=_NO_PACE),
    "no catch-up stream": _scheme(_NoStream),
}


def cells(sample: Sample) -> dict[str, Cell]:
    """Paths and speakers of which each mechanism has one that it is for."""
    base, count = (
        (ABLATION_SEEDS, NUM_ANSWERS) if sample.is_whole_grid else (TUNING_SEEDS, NUM_QUICK_ANSWERS)
    )
    seeds = range(base, base + count)

    def cell(loss: Callable[[int], Loss], rtt_s: float, rate: float) -> Cell:
        return Cell(loss, rtt_s, steady(rate, sample.answer_s), seeds)

    def sure(loss: Loss, rate: float) -> Cell:
        return Cell(lambda _: loss, 0.1, steady(rate, sample.answer_s), seeds[:1])

    at_end = Blackouts([(sample.answer_s - 0.5, sample.answer_s + 0.5)], NoLoss())
    return {
        "no loss, RTT 100 ms, 100 tok/s": sure(NoLoss(), 100),
        "random 10 %, RTT 100 ms, 50 tok/s": cell(_random(0.1), 0.1, 50),
        "random 20 %, RTT 300 ms, 50 tok/s": cell(_random(0.2), 0.3, 50),
        "random 20 %, RTT 50 ms, 5 tok/s": cell(_random(0.2), 0.05, 5),
        "bursts of 8, RTT 100 ms, 50 tok/s": cell(_bursts, 0.1, 50),
        "dark for 3 s, RTT 100 ms, 200 tok/s": sure(Blackouts([(2.0, 5.0)], NoLoss()), 200),
        "dark at the end, RTT 100 ms, 50 tok/s": sure(at_end, 50),
    }


def ablation(sample: Sample) -> Table:
    """Run all of it."""
    settings = cells(sample)
    rows: list[tuple[str | float | int | None, ...]] = []
    for name, cell in tqdm(settings.items(), unit="cell", desc="ablation"):
        for variant, scheme in VARIANTS.items():
            score = cell.score(scheme)
            rows.append((name, variant, len(cell.seeds), *_figures(score)))
    columns = (
        *("cell", "variant", "answers", "excess stall", "p95 delay ms", "longest delay ms"),
        *("bytes/token", "datagrams/s", "given up"),
    )
    return Table("Mechanisms, one off at a time", columns, tuple(rows))


def _figures(score: Score) -> tuple[float | int, ...]:
    return (
        score.excess,
        1e3 * score.p95_s,
        1e3 * score.max_s,
        score.bytes_per_token,
        score.datagrams_per_s,
        score.num_incomplete,
    )


def _random(probability: float) -> Callable[[int], Loss]:
    return lambda seed: RandomLoss(probability, seed)


def _bursts(seed: int) -> Loss:
    return chain(0.022, 0.125, 1.0, seed)
