"""Reads an exposition back, and checks PromQL against it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import promql_parser
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggregateExpr, Expr, Matcher, VectorSelector

MACROS = {"$__rate_interval": "1m", "$model": ".*"}
"""What Grafana puts in, for a test that scrapes every second: the whole of it, all models."""


def substituted(expr: str) -> str:
    """Replace Grafana's macros, which are no PromQL."""
    for macro, value in MACROS.items():
        expr = expr.replace(macro, value)
    return expr


@dataclass
class Exposition:
    """The samples of one scrape."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)
    help: dict[str, str] = field(default_factory=dict)
    """By family name, without `_total`."""
    labels: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    """Sample name -> label name -> values."""

    @classmethod
    def parse(cls, text: bytes) -> "Exposition":
        return cls.of(text_string_to_metric_families(text.decode()))

    @classmethod
    def of(cls, families: Iterable[Metric]) -> "Exposition":
        """What a registry would write, in a fraction of the time of writing and reading it."""
        found = cls()
        for family in families:
            found.help[family.name] = family.documentation
            for sample in family.samples:
                found.values[sample.name, frozenset(sample.labels.items())] = sample.value
                labels = found.labels.setdefault(sample.name, defaultdict(set))
                for name, value in sample.labels.items():
                    labels[name].add(value)
        return found

    def value(self, sample: str, **labels: str) -> float:
        return self.values[sample, frozenset(labels.items())]

    def changes(self, since: "Exposition") -> dict[str, float]:
        """Samples that differ, as `name{label=value,...}` without buckets, and by how much."""
        found = {}
        for (name, labels), value in self.values.items():
            before = since.values.get((name, labels), 0.0)
            if value != before and not name.endswith("_bucket"):
                pairs = ",".join(f"{key}={text}" for key, text in sorted(labels))
                found[f"{name}{{{pairs}}}"] = round(value - before, 9)
        return found

    def problems(self, expr: str) -> Iterator[str]:
        """Say what in a PromQL expression does not exist here: names, labels, label values.

        Raises:
            ValueError: It does not parse.
        """
        tree = promql_parser.parse(substituted(expr))
        selectors = [node for node in _nodes(tree) if isinstance(node, VectorSelector)]
        names: set[str] = set()
        for selector in selectors:
            labels = self.labels.get(str(selector.name))
            if labels is None:
                yield f"no metric {selector.name}"
                continue
            names |= set(labels)
            for matcher in selector.matchers.matchers:
                yield from self._unmatched(matcher, labels, str(selector.name))
        for node in _nodes(tree):
            if isinstance(node, AggregateExpr) and node.modifier is not None:
                yield from (f"no label {by}" for by in node.modifier.labels if by not in names)

    @staticmethod
    def _unmatched(matcher: Matcher, labels: dict[str, set[str]], metric: str) -> Iterator[str]:
        if matcher.name not in labels:
            yield f"{metric} has no label {matcher.name}"
        elif matcher.value != ".*":
            for word in matcher.value.split("|"):
                if word not in labels[matcher.name]:
                    yield f"{metric}: {matcher.name} is never {word}"


def _nodes(tree: Expr) -> list[Expr]:
    nodes: list[Expr] = []
    promql_parser.walk(tree, nodes.append)
    return nodes
