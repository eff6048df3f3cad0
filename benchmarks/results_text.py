"""Markdown of numbers and tables."""

from collections.abc import Iterator, Sequence

from headstart.benchmarks.results_data import Row, Value

__all__ = ["folded", "grid", "interval", "number", "percent", "plain", "table"]

_ROUNDING = 9
"""Decimal places behind which there is only what adding floating-point numbers leaves."""


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table's lines."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield all of a result's table."""
    yield from grid(tuple(rows[0]), [tuple(plain(value) for value in row.values()) for row in rows])


def folded(title: str, lines: Iterator[str]) -> Iterator[str]:
    """Yield lines that a reader unfolds."""
    yield from (f"<details><summary>{title}</summary>", "", *lines, "", "</details>", "")


def plain(value: Value) -> str:
    """A cell with no more digits than mean something."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{round(value, _ROUNDING):.3g}"
    return str(value)


def percent(value: Value) -> str:
    """A share."""
    return f"{100 * number(value):.2f} %"


def interval(low: Value, high: Value) -> str:
    """Two ends; none where too little was measured."""
    return "-" if low is None or high is None else f"{plain(low)} to {plain(high)}"


def number(value: Value) -> float:
    """A cell as a number; 0 where it holds none, as ratios to nothing do."""
    return float(value) if isinstance(value, float | int) else 0.0
