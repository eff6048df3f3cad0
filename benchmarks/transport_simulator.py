"""The network in virtual time: the paper's grid first, then every kind of path we could think of.

The first part of `headstart bench transport`; by itself `headstart bench transport-simulator`.
"""

from dataclasses import asdict

from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Part, run_part
from headstart.benchmarks.transport_ablation import ablation
from headstart.benchmarks.transport_cells import SSE_SEGMENT_BYTES, TOKEN_BYTES
from headstart.benchmarks.transport_grid import PAPER_CHANNELS, PAYLOAD_BYTES, Sample
from headstart.benchmarks.transport_paper import run_paper
from headstart.benchmarks.transport_wide import exactness_check, run_wide
from headstart.configs.settings import Settings

__all__ = ["run", "run_simulator"]


def run(_settings: Settings, options: BenchOptions) -> int:
    """Measure, report, and return the exit status."""
    return run_part(
        "transport-simulator", options, lambda: run_simulator(is_quick=options.is_quick)
    )


def run_simulator(*, is_quick: bool) -> Part:
    """Run all of it."""
    sample = Sample.quick() if is_quick else Sample.full()
    paper = run_paper(sample)
    tables, checks = run_wide(sample)
    exact = exactness_check(sample)
    mechanisms = ablation(sample)
    config = {
        "sample": asdict(sample),
        "seeds": "tuned on" if is_quick else "never tuned on",
        "paper_channels_stay_good_stay_bad": PAPER_CHANNELS,
        "payload_bytes": PAYLOAD_BYTES,
        "sse_segment_bytes": SSE_SEGMENT_BYTES,
        "duplicated_token_bytes": TOKEN_BYTES,
        "core_binding": None,
    }
    return Part(config, [*paper.tables, *tables, mechanisms], [*paper.checks, *checks, exact])
