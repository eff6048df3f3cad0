"""Our daemon against `vllm serve` and `ray.serve.llm`, on a real model: the bars and the table."""

from collections.abc import Iterator, Mapping, Sequence

from headstart.benchmarks.answer_times import (
    Answers,
    Pair,
    added,
    first_median_s,
    gap_s,
    ratio,
    speed,
    speed_ratio,
)
from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.report import Table

__all__ = ["CONCURRENCIES", "checks", "rival_checks", "table"]

CONCURRENCIES = (1, 4, 16)
JITTER_CONCURRENCIES = (1, 4)
"""Where issue 2 sets a bar for the time between tokens."""

Pairs = Mapping[int, Sequence[Pair]]


def checks(pairs: Pairs, *, is_quick: bool) -> Iterator[Check]:
    """Judge the bars of issues 2 and 3 beside `vllm serve`."""
    bar = Bar("added_ttft_median_concurrency_1", 0.005, "lower", "s")
    yield judge(bar, added(pairs[1], first_median_s), is_quick=is_quick)
    for concurrency in JITTER_CONCURRENCIES:
        bar = Bar(f"inter_token_p99_concurrency_{concurrency}", 1.1, "lower", "ratio")
        yield judge(bar, ratio(pairs[concurrency], gap_s(0.99)), is_quick=is_quick)
    for concurrency in CONCURRENCIES:
        bar = Bar(f"throughput_concurrency_{concurrency}", 0.97, "higher", "ratio")
        yield judge(bar, speed_ratio(pairs[concurrency]), is_quick=is_quick)


def rival_checks(pairs: Pairs | str, *, is_quick: bool) -> Iterator[Check]:
    """Judge whether we are ahead of `ray.serve.llm` everywhere.

    Args:
        pairs: Ours beside it, or why it could not be measured.
    """
    for concurrency in CONCURRENCIES:
        # Not a `ratio`, which wants a narrow interval: ahead is an interval without 1.
        first = Bar(f"serve_llm_ttft_concurrency_{concurrency}", 1.0, "lower", "times")
        gap = Bar(f"serve_llm_inter_token_p99_concurrency_{concurrency}", 1.0, "lower", "times")
        fast = Bar(f"serve_llm_throughput_concurrency_{concurrency}", 1.0, "higher", "times")
        if isinstance(pairs, str):
            yield from (not_measured(bar, pairs) for bar in (first, gap, fast))
            continue
        own = pairs[concurrency]
        yield judge(first, ratio(own, first_median_s), is_quick=is_quick)
        yield judge(gap, ratio(own, gap_s(0.99)), is_quick=is_quick)
        yield judge(fast, speed_ratio(own), is_quick=is_quick)


def table(found: Mapping[str, Pairs]) -> Table:
    """Each server's own figures, ours once for each baseline's turns.

    Args:
        found: Pairs by the baseline's name and concurrency.
    """
    rows: list[tuple[str | float | int | None, ...]] = []
    for name, pairs in found.items():
        for concurrency, own in pairs.items():
            ours = [pair.ours for pair in own]
            theirs = [pair.baseline for pair in own]
            rows.append((f"headstart beside {name}", concurrency, *_figures(ours)))
            rows.append((name, concurrency, *_figures(theirs)))
    return Table(
        "Real model, closed loop",
        (
            *("server", "concurrency", "answers", "ttft_median_s"),
            *("gap_p50_s", "gap_p90_s", "gap_p99_s", "tokens_per_s"),
        ),
        tuple(rows),
    )


def _figures(parts: Sequence[Answers]) -> tuple[float | int, ...]:
    return (
        sum(len(part.first_s) for part in parts),
        first_median_s(parts),
        *(gap_s(share)(parts) for share in (0.5, 0.9, 0.99)),
        speed(parts),
    )
