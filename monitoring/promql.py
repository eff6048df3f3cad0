"""PromQL made from catalogue entries, as Grafana wants it (`$model`, `$__rate_interval`).

Every division guards against no traffic, and a quantile over no traffic, which is NaN, is
dropped by `>= 0`.
"""

import re

from headstart.monitoring.catalogue import METRICS
from headstart.monitoring.metric import Metric

__all__ = ["increase", "mean", "metrics_in", "quantile", "rate", "series", "total"]

_BY_NAME = {metric.name: metric for metric in METRICS}
_NAME = re.compile(r"\bheadstart_\w+?(?=(?:_bucket|_sum|_count)?\b)")


def series(metric: Metric, suffix: str = "", where: str = "") -> str:
    """Select a metric for the chosen models, if it has such a label.

    Args:
        metric: What to select.
        suffix: `_bucket`, `_sum` or `_count` of a histogram.
        where: One more matcher.
    """
    has_model = any(label.name == "model" for label in metric.labels)
    matchers = [part for part in ('model=~"$model"' if has_model else "", where) if part]
    return metric.name + suffix + (f"{{{','.join(matchers)}}}" if matchers else "")


def total(vector: str, *by: str) -> str:
    """Sum over everything but the labels `by`."""
    return f"sum by ({', '.join(by)}) ({vector})" if by else f"sum({vector})"


def rate(metric: Metric, *by: str, suffix: str = "", where: str = "") -> str:
    """Events (or of `_sum`, units) a second, by label."""
    return total(f"rate({series(metric, suffix, where)}[$__rate_interval])", *by)


def increase(metric: Metric, *by: str, suffix: str = "") -> str:
    """Events in the interval, by label."""
    return total(f"increase({series(metric, suffix)}[$__rate_interval])", *by)


def mean(metric: Metric, *by: str, where: str = "") -> str:
    """Mean of a histogram's observations, by label."""
    amount = rate(metric, *by, suffix="_sum", where=where)
    return f"{amount} / ({rate(metric, *by, suffix='_count', where=where)} > 0)"


def quantile(value: float, metric: Metric, *by: str) -> str:
    """Quantile of a histogram's observations, by label."""
    return f"histogram_quantile({value}, {rate(metric, 'le', *by, suffix='_bucket')}) >= 0"


def metrics_in(expr: str) -> list[Metric]:
    """Return the metrics an expression reads, in order, each once.

    Raises:
        KeyError: It reads a `headstart_` metric that is not in the catalogue.
    """
    return [_BY_NAME[name] for name in dict.fromkeys(_NAME.findall(expr))]
