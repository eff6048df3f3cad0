"""Two hundred answers at once for ten minutes, over a path that loses a tenth: does memory grow?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.estimates import Estimate, exactly, over_blocks
from headstart.benchmarks.report import Table
from headstart.benchmarks.socket_client import Crowd, Crowded
from headstart.benchmarks.socket_gateways import KEEP_S
from headstart.benchmarks.socket_orders import model
from headstart.benchmarks.socket_rig import Rig

__all__ = ["MODEL", "Soak", "checks", "soak", "table"]

MODEL = model("slow", 5.0)
NUM_STREAMS = 200
NUM_SESSIONS = 20
"""Ten answers each: one that has ended takes its place until the server has heard so."""
NUM_TOKENS = 100
CELL = "random 10 %, RTT 100 ms"
SAMPLE_S = 1.0
WINDOW = 20
"""Samples whose mean is one point of the slope: what is allocated and freed between is noise."""
FULL_S = 300.0
"""A shorter run decides nothing."""


@dataclass(frozen=True, slots=True)
class Soak:
    """What was found."""

    seconds: float
    crowd: Crowded
    samples: Sequence[tuple[float, int]]
    """Seconds since the start, and what the gateway's process has for itself, bytes."""
    gateway_cores: float
    """CPU seconds a second."""

    @property
    def windows(self) -> list[tuple[float, float]]:
        """Means of the samples after everything has come to an end once: minutes, MiB."""
        settled = [each for each in self.samples if each[0] > min(2 * KEEP_S, self.seconds / 2)]
        parts = [settled[at : at + WINDOW] for at in range(0, len(settled), WINDOW)]
        means = [np.mean(part, axis=0) for part in parts if len(part) == WINDOW]
        return [(float(at) / 60, float(size) / 2**20) for at, size in means]

    @property
    def slope(self) -> Estimate:
        """MiB a minute."""
        return over_blocks(self.windows, _slope)


def soak(rig: Rig, seconds: float, seed: int) -> Soak:
    """Read, and weigh the gateway once a second."""
    rig.connect_crowd(CELL, NUM_SESSIONS, seed)
    began, before = time.monotonic(), rig.gateways.used()[0]
    rig.tell_readers(Crowd(MODEL.name, NUM_TOKENS, NUM_STREAMS, seconds))
    samples: list[tuple[float, int]] = []
    while (now := time.monotonic() - began) < seconds:
        samples.append((now, rig.gateways.used()[0].uss_bytes))
        time.sleep(SAMPLE_S)
    cpu_s = rig.gateways.used()[0].cpu_s - before.cpu_s
    took_s = time.monotonic() - began
    return Soak(seconds, rig.hear_readers(Crowded), samples, cpu_s / took_s)


def table(found: Soak) -> Table:
    """Sizes along the way."""
    sizes = [size / 2**20 for _, size in found.samples]
    rows: list[tuple[str | float | int | None, ...]] = [
        ("answers at once", NUM_STREAMS),
        ("answers", found.crowd.num_answers),
        ("not whole", found.crowd.num_wrong),
        ("gateway cores", found.gateway_cores),
        ("MiB at the start", sizes[0]),
        *(
            (f"MiB at {at:.1f} min", size)
            for at, size in found.windows[:: max(1, len(found.windows) // 6)]
        ),
        ("MiB at most", max(sizes)),
        *((f"not whole: {why}", count) for why, count in found.crowd.why.items()),
    ]
    title = f"{NUM_STREAMS} answers at once over {CELL}, on {NUM_SESSIONS} connections"
    return Table(title, ("what", "value"), tuple(rows))


def checks(found: Soak) -> list[Check]:
    """Flat memory, and nothing lost."""
    slope = Bar("sockets_gateway_memory_slope", 0.1, "lower", "MiB/min")
    if found.seconds < FULL_S:
        memory = not_measured(slope, f"{found.seconds:.0f} s say little")
    else:
        memory = judge(slope, found.slope, note="USS of the gateway's process")
    wrong = Bar("sockets_wrong_answers_in_a_crowd", 0, "lower", "answers")
    return [memory, judge(wrong, exactly(float(found.crowd.num_wrong)))]


def _slope(points: Sequence[tuple[float, float]]) -> float:
    at, size = np.array(points).T
    if np.ptp(at) == 0:
        return 0.0  # one window drawn again and again
    return float(np.polyfit(at, size, 1)[0])
