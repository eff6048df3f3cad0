"""Does a lossy path still stall an answer? Our datagrams against what the paper and TCP do.

Part 1 runs in virtual time, part 2 on real sockets, beside the kernel's own TCP.
"""

import os

from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Part, run_part
from headstart.benchmarks.transport_simulator import run_simulator
from headstart.benchmarks.transport_sockets import run_sockets
from headstart.configs.settings import Settings

__all__ = ["run"]


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, report, and return the exit status."""
    return run_part("transport", options, lambda: _both(settings, is_quick=options.is_quick))


def _both(settings: Settings, *, is_quick: bool) -> Part:
    simulator = run_simulator(is_quick=is_quick)
    sockets = run_sockets(settings, is_quick=is_quick)
    config = {
        "simulator": simulator.config,
        "sockets": sockets.config,
        "load_average_at_the_end": os.getloadavg()[0],
    }
    tables = [*simulator.tables, *sockets.tables]
    return Part(config, tables, [*simulator.checks, *sockets.checks])
