"""Does a lossy path still stall an answer? Our datagrams against what the paper and TCP do.

Part 1 runs in virtual time, part 2 on real sockets, beside the kernel's own TCP.
"""

import os
import time

from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Part, Report, write
from headstart.benchmarks.transport_simulator import run_simulator
from headstart.benchmarks.transport_sockets import run_sockets
from headstart.configs.settings import Settings

__all__ = ["run"]


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, report, and return the exit status."""
    origin, began = here(), time.monotonic()
    simulator = run_simulator(is_quick=options.is_quick)
    sockets = run_sockets(settings, is_quick=options.is_quick)
    both = Part(
        {
            "simulator": simulator.config,
            "sockets": sockets.config,
            "load_average_at_the_end": os.getloadavg()[0],
        },
        [*simulator.tables, *sockets.tables],
        [*simulator.checks, *sockets.checks],
    )
    report = Report.of_part(
        "transport",
        origin,
        both,
        is_quick=options.is_quick,
        duration_s=time.monotonic() - began,
    )
    write(report, options.json_path)
    return report.exit_status
