"""What a metric is, and what several of them share. The catalogue is made of these."""

from dataclasses import dataclass
from typing import Literal

from headstart.monitoring.labels import Label

__all__ = ["GAP_S", "MODEL", "STAGE_S", "Alias", "Metric"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One exported metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    """For the exposition and the dashboards: what is measured, from where to where, caveats."""
    query: str
    """A PromQL expression worth asking of it."""
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper edges in the metric's unit; histograms only."""


@dataclass(frozen=True, slots=True)
class Alias:
    """The observations of `source`, exported once more under a name others look for.

    `model` becomes `gen_ai_request_model`. OpenTelemetry's `gen_ai.operation.name` is left out:
    the source series are not split by route.
    """

    name: str
    source: Metric


MODEL = Label("model")

# Dynamo's, extended at both ends: a stage here may take microseconds, a queue seconds.
STAGE_S = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# From 1 ms on: accepted drafts share one step's gap.
GAP_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5)
