"""The one form of a benchmark's result (DESIGN §5): JSON, a summary to read, a line in LOG.md."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headstart.benchmarks.checks import Check, Verdict
from headstart.benchmarks.machine import Origin, here
from headstart.benchmarks.options import BenchOptions

__all__ = ["Part", "Report", "Table", "append_to_log", "run_part", "write"]

LOG = Path(__file__).with_name("LOG.md")


@dataclass(frozen=True, slots=True)
class Table:
    """Figures beside the checks."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What a part of a benchmark gives, which may also be run by itself."""

    config: Mapping[str, Any]
    tables: Sequence[Table]
    checks: Sequence[Check]


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run of a benchmark found."""

    name: str
    origin: Origin
    is_quick: bool
    config: Mapping[str, Any]
    """What was equal for all arms, how each was started, how much was measured."""
    tables: Sequence[Table]
    checks: Sequence[Check]
    duration_s: float

    @property
    def exit_status(self) -> int:
        """1 if a bar fails or, in a full run, is undecided; else 0."""
        bad = {Verdict.FAILS} if self.is_quick else {Verdict.FAILS, Verdict.UNDECIDED}
        return int(any(check.verdict in bad for check in self.checks))

    def to_json(self) -> str:
        """Return the whole result; infinities, which JSON lacks, become null."""
        tree = {
            "name": self.name,
            "date": self.origin.date,
            "commit": self.origin.commit,
            "is_tree_clean": self.origin.is_tree_clean,
            "machine": asdict(self.origin.machine),
            "mode": "quick" if self.is_quick else "full",
            "duration_s": self.duration_s,
            "config": dict(self.config),
            "tables": [asdict(table) for table in self.tables],
            "checks": [_check(check) for check in self.checks],
        }
        return json.dumps(_finite(tree), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def to_text(self) -> str:
        """Return what a person wants to see at the end of a run."""
        lines = [_row(table) for table in self.tables]
        lines += [_line(check) for check in self.checks]
        return "\n".join(lines)


def run_part(name: str, options: BenchOptions, measure: Callable[[], Part]) -> int:
    """Measure one part, or all of them put together, report it, and return the exit status."""
    origin, began = here(), time.monotonic()
    part = measure()
    duration_s = time.monotonic() - began
    report = Report(
        name, origin, options.is_quick, part.config, part.tables, part.checks, duration_s
    )
    write(report, options.json_path)
    return report.exit_status


def write(report: Report, path: Path) -> None:
    """Write the JSON, print the summary, and in a full run add an entry to LOG.md."""
    path.write_text(report.to_json(), encoding="utf-8")
    print(report.to_text())
    if not report.is_quick:
        append_to_log(report)


def append_to_log(report: Report, log: Path = LOG) -> None:
    """Add a dated entry, whatever the result; an installed wheel has no log and stays without."""
    if not log.exists():
        return
    origin = report.origin
    day = datetime.fromisoformat(origin.date).astimezone(UTC).date()
    machine = origin.machine
    state = "" if origin.is_tree_clean else ", with changes"
    where = (
        f"Commit {(origin.commit or 'unknown')[:12]}{state}; {machine.cpu}, {machine.num_cores} "
        f"cores, {machine.memory_gib} GiB; load {machine.load_average:.2f} at the start; "
        f"{report.duration_s / 60:.0f} min."
    )
    entry = [
        f"\n## {day} {report.name}\n\n{where}\n",
        "| check | value | 95 % interval | bar | blocks | verdict |",
        "|---|---|---|---|---|---|",
        *(_log_row(check) for check in report.checks),
    ]
    with log.open("a", encoding="utf-8") as file:
        file.write("\n".join(entry) + "\n")


def _check(check: Check) -> dict[str, Any]:
    bar, estimate = check.bar, check.estimate
    return {
        "name": bar.name,
        "value": estimate and estimate.value,
        "bar": bar.limit,
        "better": bar.better,
        "verdict": check.verdict.value,
        "unit": bar.unit,
        "low": estimate and estimate.low,
        "high": estimate and estimate.high,
        "half_width": estimate and estimate.half_width,
        "max_half_width": bar.max_half_width,
        "num_blocks": estimate and estimate.num_blocks,
        "note": check.note,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _row(table: Table) -> str:
    rows = [table.columns, *([_cell(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return f"\n{table.title}\n" + "\n".join(f"  {line}" for line in lines) + "\n"


def _cell(value: str | float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(check: Check) -> str:
    bar, sign = check.bar, "<=" if check.bar.better == "lower" else ">="
    value = "not measured" if check.estimate is None else _cell(check.estimate.value)
    text = f"{check.verdict.upper():12}  {bar.name} = {value} (bar {sign} {bar.limit:g} {bar.unit}"
    return f"{text}; 95 %: {_interval(check)})" + (f"  {check.note}" if check.note else "")


def _log_row(check: Check) -> str:
    bar, estimate = check.bar, check.estimate
    sign = "≤" if bar.better == "lower" else "≥"
    value, blocks = ("-", "-")
    if estimate is not None:
        value, blocks = _cell(estimate.value), str(estimate.num_blocks)
    return (
        f"| {bar.name} ({bar.unit}) | {value} | {_interval(check)} | {sign} {bar.limit:g} "
        f"| {blocks} | {check.verdict} |"
    )


def _interval(check: Check) -> str:
    estimate = check.estimate
    if estimate is None or not math.isfinite(estimate.half_width):
        return "-"
    if estimate.half_width == 0:
        return "exact"
    return f"{_cell(estimate.low)} to {_cell(estimate.high)}"
