"""Does a lossy path still stall an answer? Our datagrams against what the paper and TCP do.

Part 1 runs in virtual time: the paper's grid first, then every kind of path that we could think of.
Part 2 runs on real sockets, beside the kernel's own TCP.
"""

import os
import time
from dataclasses import asdict

from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Report, write
from headstart.benchmarks.transport_ablation import ablation
from headstart.benchmarks.transport_cells import SSE_SEGMENT_BYTES, TOKEN_BYTES
from headstart.benchmarks.transport_grid import PAPER_CHANNELS, PAYLOAD_BYTES, Sample
from headstart.benchmarks.transport_paper import run_paper
from headstart.benchmarks.transport_sockets import run_sockets
from headstart.benchmarks.transport_wide import exactness_check, run_wide
from headstart.configs.settings import Settings

__all__ = ["run"]


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, report, and return the exit status."""
    origin, began = here(), time.monotonic()
    sample = Sample.quick() if options.is_quick else Sample.full()
    paper = run_paper(sample)
    tables, checks = run_wide(sample)
    exact = exactness_check(sample)
    mechanisms = ablation(sample)
    sockets = run_sockets(settings, is_quick=options.is_quick)
    report = Report(
        name="transport",
        origin=origin,
        is_quick=options.is_quick,
        config={
            "simulator": {
                "sample": asdict(sample),
                "seeds": "tuned on" if options.is_quick else "never tuned on",
                "paper_channels_stay_good_stay_bad": PAPER_CHANNELS,
                "payload_bytes": PAYLOAD_BYTES,
                "sse_segment_bytes": SSE_SEGMENT_BYTES,
                "duplicated_token_bytes": TOKEN_BYTES,
                "core_binding": None,
            },
            "sockets": sockets.config,
            "load_average_at_the_end": os.getloadavg()[0],
        },
        tables=[*paper.tables, *tables, mechanisms, *sockets.tables],
        checks=[*paper.checks, *checks, exact, *sockets.checks],
        duration_s=time.monotonic() - began,
    )
    write(report, options.json_path)
    return report.exit_status
