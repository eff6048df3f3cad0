"""The catalogue: every metric is documented, and what it says is true of the exposition."""

from itertools import pairwise

import pytest

from headstart.monitoring.catalogue import METRICS
from headstart.monitoring.catalogue_requests import ALIASES, TTFT
from headstart.monitoring.labels import FinishReason, Outcome, Refusal
from headstart.monitoring.metric import Metric
from headstart.monitoring.metrics import Metrics
from headstart.monitoring.promql import metrics_in
from headstart.stages import errors
from headstart.stages.errors import BadRequest, EngineLost, NotFound, ProtocolViolation
from headstart.stages.stage_clock import Stage
from tests.monitoring.exposition import Exposition

every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


@pytest.fixture(scope="module")
def exported() -> Exposition:
    return Exposition.parse(Metrics(["small"], "1", languages={"small": ["de"]}).expose())


def test_exposition_holds_the_catalogue_and_nothing_else(exported: Exposition) -> None:
    named = {metric.name for metric in METRICS} | {alias.name for alias in ALIASES}
    assert set(exported.help) == {name.removesuffix("_total") for name in named}


@every_metric
def test_metric_is_named_and_documented(metric: Metric, exported: Exposition) -> None:
    assert metric.name.startswith("headstart_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert exported.help[metric.name.removesuffix("_total")] == metric.help
    assert metric.help.endswith(".")
    assert "\n" not in metric.help


@every_metric
def test_metric_has_a_query_that_reads_it(metric: Metric, exported: Exposition) -> None:
    assert metric in metrics_in(metric.query)
    assert list(exported.problems(metric.query)) == []


@every_metric
def test_buckets_rise(metric: Metric) -> None:
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert all(low < high for low, high in pairwise(metric.buckets))


@every_metric
def test_label_values_are_closed(metric: Metric, exported: Exposition) -> None:
    given = {"model": {"small"}, "version": {"1"}, "language": {"de", "other", "none"}}
    for sample, labels in exported.labels.items():
        if sample.removesuffix("_count") != metric.name:
            continue
        assert set(labels) == {label.name for label in metric.labels}
        for label in metric.labels:
            allowed = set(label.values or given[label.name])
            is_requests = metric.name == "headstart_requests_total"
            extra = {""} if is_requests and label.name == "model" else set()
            assert labels[label.name] == allowed | extra


def test_every_stage_is_exported_from_the_start(exported: Exposition) -> None:
    for stage in Stage:
        count = exported.value("headstart_stage_duration_seconds_count", stage=stage, model="small")
        assert count == 0


def test_unknown_metric_in_an_expression_is_an_error() -> None:
    assert metrics_in("rate(headstart_ttft_seconds_sum[1m])") == [TTFT]
    with pytest.raises(KeyError):
        metrics_in("rate(headstart_nonsense_total[1m])")


def test_query_check_finds_what_does_not_exist(exported: Exposition) -> None:
    expr = 'sum by (colour) (headstart_streams{state="asleep",model=~".*"}) + headstart_lost'
    assert list(exported.problems(expr)) == [
        "headstart_streams: state is never asleep",
        "headstart_streams has no label model",
        "no metric headstart_lost",
        "no label colour",
    ]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BadRequest("no"), Outcome.CLIENT_ERROR),
        (NotFound("no"), Outcome.CLIENT_ERROR),
        (EngineLost("gone"), Outcome.ENGINE_ERROR),
        (ProtocolViolation("odd"), Outcome.ENGINE_ERROR),
        (ValueError("a bug of ours"), Outcome.ENGINE_ERROR),
    ],
)
def test_outcome_says_whose_fault_an_error_is(error: Exception, outcome: Outcome) -> None:
    assert Outcome.of(error) is outcome


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (BadRequest("no"), Refusal.MALFORMED),
        (errors.Unauthenticated("who"), Refusal.UNAUTHENTICATED),
        (errors.Forbidden("no"), Refusal.FORBIDDEN),
        (errors.RateLimited("later"), Refusal.RATE_LIMITED),
        (errors.HeadTooLarge("no"), Refusal.TOO_LARGE),
        (errors.Overloaded("full"), Refusal.OVERLOADED),
        (errors.EngineUnavailable("none"), Refusal.NO_REPLICA),
        (EngineLost("gone"), None),
        (errors.Cancelled("stopped"), None),
    ],
)
def test_refusal_is_what_no_engine_has_begun(
    error: errors.HeadstartError, refusal: Refusal | None
) -> None:
    assert Refusal.of(error) is refusal


def test_engines_own_finish_reasons_are_other() -> None:
    assert FinishReason.of("length") is FinishReason.LENGTH
    assert FinishReason.of("repetition") is FinishReason.OTHER
