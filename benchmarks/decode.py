"""What several tokens a step are worth: copying, tables, Jacobi steps and `auto` beside vLLM's own.

Run by `headstart bench decode`; the bars are issue 7's. It has three parts, which can also be run
one at a time: `decode-speed`, `decode-exact` and `decode-plumbing`. All engines have the same
weights, cores and arguments, and no prefix cache. Only decoding is compared, so there is no HTTP.
"""

from headstart.benchmarks import decode_exact, decode_plumbing, decode_speed
from headstart.benchmarks.decode_setup import run_parts
from headstart.benchmarks.options import BenchOptions
from headstart.configs.settings import Settings

__all__ = ["run"]


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, write the report, and return the exit status.

    Raises:
        SetupError: As `run_parts`.
    """
    parts = [decode_exact.measure, decode_plumbing.measure, decode_speed.measure]
    return run_parts("decode", settings, options, parts)
