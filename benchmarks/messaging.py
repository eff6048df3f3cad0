"""pyzmq against grpc.aio for the data plane: one message per engine step, one token a stream.

docs/adr/0002-data-plane-messaging.md draws the conclusion.
"""

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

import numpy as np
import zmq
from tqdm import trange  # type: ignore[import-untyped]

from headstart.benchmarks.checks import Bar, Check, judge
from headstart.benchmarks.estimates import Estimate, Floats, over_blocks, paired_ratio, quantile
from headstart.benchmarks.machine import here
from headstart.benchmarks.messaging_links import ARMS, Credentials
from headstart.benchmarks.messaging_turn import NUM_CONNECTS, Ask, Phase, Turn, take_turn
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Report, Table, write
from headstart.configs.settings import Settings

__all__ = ["run"]

CHOSEN = "pyzmq+CURVE"
RIVALS = ("grpc.aio", "grpc.aio+TLS")

STEP_S = 0.02
ASKS = (
    Ask(num_streams=64, num_steps=80, period_s=STEP_S),
    Ask(num_streams=512, num_steps=60, period_s=STEP_S),
    Ask(num_streams=64, num_steps=3000, period_s=0.0),
    Ask(num_streams=512, num_steps=600, period_s=0.0),
)
PACED_64, PACED_512, FAST_64, FAST_512 = range(len(ASKS))

NUM_ROUNDS, NUM_QUICK_ROUNDS = 9, 2

Round = Mapping[str, Turn]
"""Every arm's turn, one after the other."""
Row = tuple[str | float | int, ...]
Statistic = Callable[[Sequence[Turn]], float]


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured of every arm."""

    name: str
    of: Statistic
    better: Literal["lower", "higher"] = "lower"


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, report, and return the exit status."""
    origin, began = here(), time.monotonic()
    credentials = Credentials.make(secrets.token_urlsafe(24))
    window_bytes = settings.data_plane.window_bytes
    rounds: list[Round] = []
    for number in trange(NUM_QUICK_ROUNDS if options.is_quick else NUM_ROUNDS, unit="round"):
        first = number % len(ARMS)
        order = ARMS[first:] + ARMS[:first]
        rounds.append({arm: take_turn(arm, credentials, window_bytes, ASKS) for arm in order})
    report = Report(
        name="messaging",
        origin=origin,
        is_quick=options.is_quick,
        config={
            "asks": [f"{ask.num_steps} steps of {ask.num_streams}" for ask in ASKS],
            "step_s": STEP_S,
            "num_connects": NUM_CONNECTS,
            "window_bytes": window_bytes,
            "processes": "one sender (asyncio), one receiver (uvloop), anew for each turn",
            "core_binding": None,
            "load_average_at_the_end": os.getloadavg()[0],
            "libzmq": zmq.zmq_version(),
            "grpcio": metadata.version("grpcio"),
        },
        tables=_tables(rounds),
        checks=_checks(rounds, is_quick=options.is_quick),
        duration_s=time.monotonic() - began,
    )
    write(report, options.json_path)
    return report.exit_status


def _hop(phase: int, share: float) -> Statistic:
    def statistic(turns: Sequence[Turn]) -> float:
        hops_s: Floats = np.concatenate([turn.phases[phase].hops_s for turn in turns])
        return quantile(hops_s, share)

    return statistic


def _cpu(phase: int, seconds: Callable[[Phase], float]) -> Statistic:
    """Seconds per 10,000 messages."""

    def statistic(turns: Sequence[Turn]) -> float:
        total = sum(seconds(turn.phases[phase]) for turn in turns)
        return 10_000 * total / (len(turns) * ASKS[phase].num_steps)

    return statistic


def _tokens_per_s(phase: int) -> Statistic:
    def statistic(turns: Sequence[Turn]) -> float:
        num_tokens = len(turns) * ASKS[phase].num_steps * ASKS[phase].num_streams
        return num_tokens / sum(turn.phases[phase].wall_s for turn in turns)

    return statistic


def _first_message(turns: Sequence[Turn]) -> float:
    return quantile(np.concatenate([turn.first_message_s for turn in turns]), 0.5)


def _sender_cpu(phase: Phase) -> float:
    return phase.sender_cpu_s


def _receiver_cpu(phase: Phase) -> float:
    return phase.receiver_cpu_s


def _both_cpu(phase: Phase) -> float:
    return phase.sender_cpu_s + phase.receiver_cpu_s


HOP_P50 = Figure("hop_p50_64", _hop(PACED_64, 0.5))
HOP_P99 = Figure("hop_p99_64", _hop(PACED_64, 0.99))
HOP_P50_512 = Figure("hop_p50_512", _hop(PACED_512, 0.5))
CPU = Figure("cpu_64", _cpu(PACED_64, _both_cpu))
RATE = Figure("tokens_per_s_64", _tokens_per_s(FAST_64), "higher")
COMPARED = (
    HOP_P50,
    HOP_P99,
    HOP_P50_512,
    Figure("hop_p99_512", _hop(PACED_512, 0.99)),
    Figure("first_message_p50", _first_message),
    CPU,
    Figure("cpu_512", _cpu(PACED_512, _both_cpu)),
    RATE,
    Figure("tokens_per_s_512", _tokens_per_s(FAST_512), "higher"),
)


def _ratio(rounds: Sequence[Round], figure: Figure, rival: str) -> Estimate:
    return paired_ratio([(turns[CHOSEN], turns[rival]) for turns in rounds], figure.of)


def _checks(rounds: Sequence[Round], *, is_quick: bool) -> list[Check]:
    def ahead(figure: Figure, rival: str) -> Check:
        # Not a `ratio`, which wants a narrow interval: ahead is an interval without 1.
        bar = Bar(f"{figure.name} / {rival}", 1.0, figure.better, "times")
        return judge(bar, _ratio(rounds, figure, rival), is_quick=is_quick)

    def alone(figure: Figure, limit: float, unit: str) -> Check:
        estimate = over_blocks(rounds, lambda drawn: figure.of([turns[CHOSEN] for turns in drawn]))
        return judge(Bar(figure.name, limit, figure.better, unit), estimate, is_quick=is_quick)

    return [
        ahead(HOP_P50, "grpc.aio+TLS"),
        ahead(HOP_P50_512, "grpc.aio+TLS"),
        ahead(CPU, "grpc.aio+TLS"),
        ahead(RATE, "grpc.aio+TLS"),
        ahead(RATE, "grpc.aio"),
        alone(HOP_P99, 0.01, "s"),
        alone(RATE, 10_000, "tokens/s"),
    ]


def _tables(rounds: Sequence[Round]) -> list[Table]:
    turns = {arm: [each[arm] for each in rounds] for arm in ARMS}
    cpu = ("sender cpu_s / 10,000", "receiver cpu_s / 10,000")
    paced: list[Row] = []
    fast: list[Row] = []
    for arm, of_arm in turns.items():
        for phase, ask in enumerate(ASKS):
            costs = (_cpu(phase, _sender_cpu)(of_arm), _cpu(phase, _receiver_cpu)(of_arm))
            if ask.period_s:
                hops_ms = [1e3 * _hop(phase, share)(of_arm) for share in (0.5, 0.99)]
                paced.append((ask.num_streams, arm, *hops_ms, *costs))
            else:
                rate = _tokens_per_s(phase)(of_arm)
                fast.append((ask.num_streams, arm, rate / ask.num_streams, rate, *costs))
    first = [(arm, 1e3 * _first_message(of_arm)) for arm, of_arm in turns.items()]
    ratios: list[Row] = []
    for figure in COMPARED:
        for rival in RIVALS:
            ratio = _ratio(rounds, figure, rival)
            ratios.append((figure.name, rival, ratio.value, ratio.low, ratio.high))
    return [
        Table(
            f"A message every {1e3 * STEP_S:g} ms",
            ("streams", "arm", "hop p50 ms", "hop p99 ms", *cpu),
            _by_streams(paced),
        ),
        Table("Unthrottled", ("streams", "arm", "messages/s", "tokens/s", *cpu), _by_streams(fast)),
        Table("First message of a new connection", ("arm", "p50 ms"), tuple(first)),
        Table(
            f"{CHOSEN} / rival, with its 95 % interval",
            ("figure", "rival", "ratio", "low", "high"),
            tuple(ratios),
        ),
    ]


def _by_streams(rows: list[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: int(row[0])))
