"""Every scheme in one cell of the transport grid, and what its bars say."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from headstart.benchmarks.checks import Bar, Check, Verdict, judge
from headstart.benchmarks.estimates import Estimate, over_blocks
from headstart.benchmarks.transport_cells import (
    SSE_SEGMENT_BYTES,
    TEXT_BYTES,
    Outcome,
    Score,
    copies_for,
    duplication,
    ours,
    published,
    retransmission,
)
from headstart.benchmarks.transport_grid import Setting

__all__ = ["NEGLIGIBLE", "Result", "measure", "ratio_check", "worst"]

NEGLIGIBLE = 0.002
"""Share of an answer's time: where a rival's excess stall is below, ours need only be so too."""

_NUM_ELOQUENT = 8
"""Answers of the published scheme in a cell: it is there to be looked at, no bar needs it."""
_ORDER = (Verdict.HOLDS, Verdict.NOT_MEASURED, Verdict.UNDECIDED, Verdict.FAILS)


@dataclass(frozen=True, slots=True)
class Result:
    """What every scheme did in one cell, answer by answer on the same seeds."""

    setting: Setting
    tcp: Sequence[Outcome]
    copies: int
    """The smallest duplication, from two copies on, that costs as many wire bytes as ours."""
    doubled: Sequence[Outcome]
    eloquent: Sequence[Outcome]
    """Of the first few seeds."""
    ours: Sequence[Outcome]

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens of an engine step."""
        return fmean(self.setting.cell.sizes or (1,))

    def score(self, outcomes: Sequence[Outcome]) -> Score:
        """Sum one scheme's answers up."""
        return Score.of(outcomes, self.tokens_per_step)

    @property
    def sse_bytes_per_token(self) -> float:
        """What SSE costs where nothing is lost: a chunk for each step."""
        return (SSE_SEGMENT_BYTES + TEXT_BYTES * (self.tokens_per_step - 1)) / self.tokens_per_step

    def excess_ratio(self, rival: Sequence[Outcome]) -> Estimate:
        """Our excess stall over a rival's, over the answers."""
        return self._ratio(rival, lambda outcome: outcome.excess)

    def p95_ratio(self, rival: Sequence[Outcome]) -> Estimate:
        """Our delay beyond the link's own that 95 % of steps keep, over a rival's."""
        pairs = list(zip(self.ours, rival, strict=True))

        def statistic(drawn: Sequence[tuple[Outcome, Outcome]]) -> float:
            mine, theirs = (_p95_s(outcomes) for outcomes in zip(*drawn, strict=True))
            return mine / theirs if theirs > 0 else float(mine > 0)

        return over_blocks(pairs, statistic)

    def mean(self, of: Callable[[Outcome], float], outcomes: Sequence[Outcome]) -> Estimate:
        """A mean over answers with its interval."""
        return over_blocks(outcomes, lambda drawn: fmean(map(of, drawn)))

    def _ratio(self, rival: Sequence[Outcome], of: Callable[[Outcome], float]) -> Estimate:
        pairs = list(zip(map(of, self.ours), map(of, rival), strict=True))

        def statistic(drawn: Sequence[tuple[float, float]]) -> float:
            mine, theirs = (sum(values) for values in zip(*drawn, strict=True))
            return mine / theirs if theirs > 0 else float(mine > 0)

        return over_blocks(pairs, statistic)


def measure(setting: Setting) -> Result:
    """Run every scheme in a cell."""
    cell = setting.cell
    mine = cell.outcomes(ours)
    bytes_per_step = fmean(outcome.bytes_per_step for outcome in mine)
    copies = copies_for(bytes_per_step)
    doubled = cell.outcomes(duplication(copies))
    # Retransmissions cost too: fewer copies may already be as dear as ours.
    while copies > 2:
        fewer = cell.outcomes(duplication(copies - 1))
        if fmean(outcome.bytes_per_step for outcome in fewer) < bytes_per_step:
            break
        copies, doubled = copies - 1, fewer
    few = replace(cell, seeds=cell.seeds[:_NUM_ELOQUENT])
    return Result(
        setting, cell.outcomes(retransmission), copies, doubled, few.outcomes(published), mine
    )


def _p95_s(outcomes: Sequence[Outcome]) -> float:
    return float(np.quantile(np.concatenate([each.delays_s for each in outcomes]), 0.95))


def ratio_check(result: Result, rival: Sequence[Outcome], limit: float, is_quick: bool) -> Check:
    """Whether our excess stall is at most so many times a rival's, or negligible as the rival's."""
    name = result.setting.name
    if fmean(outcome.excess for outcome in rival) < NEGLIGIBLE:
        bar = Bar(name, NEGLIGIBLE, "lower", "share of time")
        estimate = result.mean(lambda outcome: outcome.excess, result.ours)
    else:
        bar = Bar(name, limit, "lower", "ratio")
        estimate = result.excess_ratio(rival)
    return judge(bar, estimate, is_quick=is_quick)


def worst(name: str, limit: float, unit: str, checks: Iterable[Check]) -> Check:
    """One check for a bar that must hold in each of many cells: the worst of theirs.

    Cells whose own bar has another unit count for the verdict, not for the value; where all have
    another, theirs is what was judged and is shown.
    """
    found = list(checks)
    assert found
    verdict = max((check.verdict for check in found), key=_ORDER.index)
    valued = [check for check in found if check.bar.unit == unit and check.estimate] or found
    shown = max(valued, key=lambda check: (_ORDER.index(check.verdict), _value(check)))
    bad = [check for check in found if check.verdict is not Verdict.HOLDS]
    note = f"worst of {len(found)} cells: {shown.bar.name}"
    for bar in {check.bar.unit: check.bar for check in found if check.bar.unit != unit}.values():
        count = sum(check.bar.unit == bar.unit for check in found)
        note += f"; {count} of them judged by {bar.unit} ≤ {bar.limit:g}, where the rival has less"
    if bad:
        names = "; ".join(f"{check.bar.name}: {check.verdict}" for check in bad[:8])
        note += f"; {len(bad)} do not hold: {names}" + ("; ..." if len(bad) > 8 else "")
    if shown.bar.unit != unit:
        limit, unit = shown.bar.limit, shown.bar.unit
    return Check(Bar(name, limit, "lower", unit), shown.estimate, verdict, note)


def _value(check: Check) -> float:
    return check.estimate.value if check.estimate else 0.0
