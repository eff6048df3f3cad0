"""Bars and verdicts: when a claim holds, fails, or is not decided.

DESIGN §5 fixes the rule; every benchmark uses this one and no other.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from headstart.benchmarks.estimates import Estimate

__all__ = ["Bar", "Check", "Verdict", "judge", "not_measured"]


class Verdict(StrEnum):
    """What became of a bar."""

    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit that a measured value must keep."""

    name: str
    limit: float
    better: Literal["lower", "higher"]
    unit: str
    """`s`, `tokens/s`, or `ratio` for ours divided by the baseline's."""

    @property
    def max_half_width(self) -> float | None:
        """Widest half interval that decides a ratio bar; None for other units."""
        if self.unit != "ratio":
            return None
        return min(abs(self.limit - 1) / 2, self.limit / 10)

    def is_kept_by(self, value: float) -> bool:
        """Whether a value is on the good side, the limit included."""
        return value <= self.limit if self.better == "lower" else value >= self.limit


@dataclass(frozen=True, slots=True)
class Check:
    """A bar, what was measured, and the verdict."""

    bar: Bar
    estimate: Estimate | None
    verdict: Verdict
    note: str = ""


def judge(bar: Bar, estimate: Estimate, *, is_quick: bool = False, note: str = "") -> Check:
    """Compare what was measured with its bar.

    A ratio is decided by its point estimate once its interval is narrow enough. Any other value is
    decided once its whole interval lies on one side. Either fails as soon as the whole interval is
    on the wrong side.

    Args:
        is_quick: A small sample that cannot decide counts as not measured.
        note: For whoever reads the check.
    """
    verdict = _verdict(bar, estimate)
    if is_quick and verdict is Verdict.UNDECIDED:
        verdict = Verdict.NOT_MEASURED
    return Check(bar, estimate, verdict, note)


def not_measured(bar: Bar, why: str) -> Check:
    """A bar that this run could not measure."""
    return Check(bar, None, Verdict.NOT_MEASURED, why)


def _verdict(bar: Bar, estimate: Estimate) -> Verdict:
    ends_kept = (bar.is_kept_by(estimate.low), bar.is_kept_by(estimate.high))
    if not any(ends_kept):
        return Verdict.FAILS
    if bar.max_half_width is None:
        return Verdict.HOLDS if all(ends_kept) else Verdict.UNDECIDED
    # A hair's breadth of rounding is no reason for another hour of measuring.
    if estimate.half_width > bar.max_half_width * (1 + 1e-9):
        return Verdict.UNDECIDED
    return Verdict.HOLDS if bar.is_kept_by(estimate.value) else Verdict.FAILS
