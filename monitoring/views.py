"""What a dashboard is made of: rows of views, each with a title, a unit and its queries.

Data only; `headstart.monitoring.dashboards` draws it. Quantiles are never added up or averaged.
"""

from dataclasses import dataclass
from enum import Enum, auto

from headstart.monitoring.metric import Metric
from headstart.monitoring.promql import quantile

__all__ = ["Kind", "Query", "Row", "View", "quantiles"]


class Kind(Enum):
    """How a view is drawn."""

    STAT = auto()
    LINES = auto()
    LOG_LINES = auto()
    """For what spans orders of magnitude."""
    STACK = auto()
    """Lines on top of each other; only for what may be added up."""
    HEATMAP = auto()


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and the name of its lines."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class View:
    """One panel."""

    title: str
    unit: str
    """Grafana's unit id."""
    note: str
    """What to keep in mind; the help of each metric is added to it."""
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels."""

    title: str
    views: tuple[View, ...]


def quantiles(metric: Metric, *values: float) -> tuple[Query, ...]:
    """A line for each of some quantiles."""
    return tuple(Query(quantile(value, metric), f"p{100 * value:g}") for value in values)
