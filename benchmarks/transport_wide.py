"""The wide grid: our datagrams beside retransmission and duplication on every kind of path."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from tqdm import tqdm  # type: ignore[import-untyped]

from headstart.benchmarks.checks import Bar, Check, Verdict, judge
from headstart.benchmarks.estimates import Estimate, exactly
from headstart.benchmarks.report import Table
from headstart.benchmarks.transport_beside import real_cells, timeline
from headstart.benchmarks.transport_cells import SSE_SEGMENT_BYTES, Outcome
from headstart.benchmarks.transport_exactness import Network, is_exact
from headstart.benchmarks.transport_grid import (
    Group,
    Sample,
    Setting,
    paper_settings,
    wide_settings,
)
from headstart.benchmarks.transport_scores import Result, measure, ratio_check, worst

__all__ = ["cost_check", "exactness_check", "run_wide"]

TCP_BAR, DUPLICATION_BAR = 0.29, 0.68
"""The paper's -71.0 % and -31.6 %, of excess stall."""
COLLAPSE_BAR_S = 0.05
SSE_BAR = 1.0
"""Of SSE's wire bytes for the same steps, downwards."""
NUM_RUNS, NUM_QUICK_RUNS = 2_000, 200
_MORE_ANSWERS = 12
"""A cell that is undecided is looked at once more, on so many times the answers, all of them new:
what the first look found decides whether there is a second, and nothing of its verdict."""
_JUDGED = (Group.LOSSY, Group.REORDER, Group.PAPER)
"""At least 5 % lost, and the un-acked window fits one payload."""
GOAL = Bar("goal_excess_stall_vs_retransmission_paper_default", 0.1, "lower", "ratio")


def run_wide(sample: Sample) -> tuple[list[Table], list[Check]]:
    """Run the grid: tables and checks."""
    settings = [*paper_settings(sample), *wide_settings(sample)]
    results = [_decided(setting, sample) for setting in tqdm(settings, unit="cell", desc="wide")]
    tables = [
        _table(str(group), [result for result in results if result.setting.group is group])
        for group in Group
        if group is not Group.SHARED
    ]
    tables.append(_table("as on the real link", real_cells(sample)))
    tables.append(timeline(sample))
    return tables, _checks(results, is_quick=not sample.is_whole_grid)


def exactness_check(sample: Sample) -> Check:
    """Whether every reader of every random network got the answer byte for byte."""
    count = NUM_RUNS if sample.is_whole_grid else NUM_QUICK_RUNS
    wrong = [
        seed
        for seed in tqdm(sample.seeds(count), unit="run", desc="exactness")
        if not is_exact(Network.drawn(seed))
    ]
    bar = Bar("byte_identical_answers", 1.0, "higher", "share")
    note = f"{count} random networks, two readers each" + (f"; wrong: {wrong[:9]}" if wrong else "")
    return judge(bar, exactly(1 - len(wrong) / count), note=note)


def _decided(setting: Setting, sample: Sample) -> Result:
    result = measure(setting)
    if setting.group not in _JUDGED or not sample.is_whole_grid:
        return result
    if all(check.verdict is not Verdict.UNDECIDED for check in _bars(result, is_quick=False)):
        return result
    num_seen = len(setting.cell.seeds)
    seeds = sample.seeds((1 + _MORE_ANSWERS) * num_seen)[num_seen:]
    return measure(replace(setting, cell=replace(setting.cell, seeds=seeds)))


def _bars(result: Result, *, is_quick: bool) -> tuple[Check, Check]:
    return (
        ratio_check(result, result.tcp, TCP_BAR, is_quick),
        ratio_check(result, result.doubled, DUPLICATION_BAR, is_quick),
    )


def _checks(results: Sequence[Result], *, is_quick: bool) -> list[Check]:
    lossy = [result for result in results if result.setting.group in _JUDGED]
    clean = [result for result in results if result.setting.group is Group.CLEAN]
    bars = [_bars(result, is_quick=is_quick) for result in lossy]
    collapse = [
        result
        for result in lossy
        if result.setting.name.startswith(("random 10 %, RTT 300", "random 20 %, RTT 300"))
        and result.setting.name.endswith(" 100 tok/s")
    ]
    ratio = "ratio"
    return [
        worst("excess_stall_vs_retransmission", TCP_BAR, ratio, [tcp for tcp, _ in bars]),
        worst("excess_stall_vs_duplication", DUPLICATION_BAR, ratio, [twice for _, twice in bars]),
        worst(
            "stall_beyond_sse_without_loss",
            0.0,
            "share of time",
            [_no_worse(result) for result in clean],
        ),
        worst("p95_delay_beyond_sse_without_loss", 0.0, "s", [_no_later(each) for each in clean]),
        worst(
            "render_delay_p95_rtt_300_100_tokens_per_s",
            COLLAPSE_BAR_S,
            "s",
            [_p95(result, is_quick=is_quick) for result in collapse],
        ),
        worst(
            "wire_bytes_per_token",
            SSE_SEGMENT_BYTES,
            "wire bytes/token",
            [_token_cost(result) for result in [*lossy, *clean]],
        ),
        worst(
            "wire_bytes_beside_sse",
            SSE_BAR,
            ratio,
            [cost_check(result) for result in [*lossy, *clean]],
        ),
        _goal(results, is_quick=is_quick),
    ]


def _goal(results: Sequence[Result], *, is_quick: bool) -> Check:
    """A tenth of TCP's stalls in the paper's default cell, at its longer round trip."""
    default = next(result for result in results if result.setting.group is Group.PAPER)
    stalls = [fmean(each.stall for each in arm) for arm in (default.ours, default.tcp)]
    note = f"{default.setting.name}; of the whole stall {stalls[0] / stalls[1]:.2f}"
    return judge(GOAL, default.excess_ratio(default.tcp), is_quick=is_quick, note=note)


def _no_worse(result: Result) -> Check:
    beyond = fmean(outcome.stall for outcome in result.ours) - fmean(
        outcome.stall for outcome in result.tcp
    )
    return judge(Bar(result.setting.name, 0.0, "lower", "share of time"), exactly(beyond))


def _no_later(result: Result) -> Check:
    """Of delays too short to be stalls, too."""
    beyond = result.score(result.ours).p95_s - result.score(result.tcp).p95_s
    return judge(Bar(result.setting.name, 0.0, "lower", "s"), exactly(round(beyond, 6)))


def _p95(result: Result, *, is_quick: bool) -> Check:
    def statistic(outcome: Outcome) -> float:
        return outcome.delays_s[int(0.95 * (len(outcome.delays_s) - 1))]

    bar = Bar(result.setting.name, COLLAPSE_BAR_S, "lower", "s")
    interval = result.mean(statistic, result.ours)
    pooled = result.score(result.ours).p95_s
    estimate = Estimate(
        pooled, min(interval.low, pooled), max(interval.high, pooled), interval.num_blocks
    )
    return judge(bar, estimate, is_quick=is_quick)


def _token_cost(result: Result) -> Check:
    """Our wire bytes a token beside one chunk of SSE."""
    bar = Bar(result.setting.name, SSE_SEGMENT_BYTES, "lower", "wire bytes/token")
    return judge(bar, exactly(result.score(result.ours).bytes_per_token))


def cost_check(result: Result) -> Check:
    """Our wire bytes over SSE's for the same steps: one chunk each, however many tokens it has."""
    cost = result.score(result.ours).bytes_per_token
    bar = Bar(result.setting.name, SSE_BAR, "lower", "ratio")
    return judge(bar, exactly(cost / result.sse_bytes_per_token))


def _table(group: str, results: Sequence[Result]) -> Table:
    rows: list[tuple[str | float | int | None, ...]] = []
    for result in results:
        tcp, twice, eloquent, mine = (
            result.score(outcomes)
            for outcomes in (result.tcp, result.doubled, result.eloquent, result.ours)
        )
        ratio = result.excess_ratio(result.tcp)
        rows.append(
            (
                result.setting.name,
                len(result.ours),
                mine.loss,
                tcp.excess,
                result.copies,
                twice.excess,
                eloquent.excess,
                mine.excess,
                ratio.value if tcp.excess > 0 else None,
                mine.excess / twice.excess if twice.excess > 0 else None,
                mine.paper_stall,
                tcp.paper_stall,
                1e3 * mine.p95_s,
                1e3 * tcp.p95_s,
                mine.bytes_per_token,
                mine.bytes_per_token / result.sse_bytes_per_token,
                mine.up_bytes_per_token,
                tcp.up_bytes_per_token,
                mine.datagrams_per_s,
                mine.num_incomplete,
            )
        )
    columns = (
        "cell",
        "answers",
        "loss",
        "TCP's excess",
        "copies",
        "duplication's excess",
        "Eloquent's excess",
        "our excess",
        "ours / TCP's",
        "ours / duplication's",
        "our paper stall",
        "TCP's paper stall",
        "our p95 ms",
        "TCP's p95 ms",
        "our bytes/token",
        "of SSE's",
        "our up bytes/token",
        "TCP's up bytes/token",
        "our datagrams/s",
        "given up",
    )
    return Table(f"Cells: {group}", columns, tuple(rows))
