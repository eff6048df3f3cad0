"""Every panel's query on a real Prometheus that scraped real expositions."""

import math
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from threading import Thread

import pytest

from headstart.monitoring import dashboards
from headstart.monitoring.catalogue import METRICS
from headstart.monitoring.catalogue_requests import ALIASES
from headstart.monitoring.labels import (
    AckOutcome,
    CarrierKind,
    Fallback,
    Handshake,
    Outcome,
    ResumeOutcome,
    Route,
    Way,
)
from headstart.monitoring.metrics import CONTENT_TYPE, Metrics
from headstart.monitoring.transport_meter import TransportMeter
from headstart.stages.datagram_events import Cause
from headstart.stages.drafting import Source
from headstart.stages.mind_events import ThoughtOutcome
from headstart.stages.mirror import StreamEnd
from headstart.stages.render_gaps import Gap, StallCause
from headstart.stages.routing import Routed
from headstart.stages.speculation_counts import LanguageCounts, SourceCounts, SpeculationCounts
from headstart.stages.speculation_labels import Decision, Position, Undrafted
from headstart.stages.stage_clock import Mark, Stage, StageClock
from headstart.stages.warm_events import Budget, EditKind, LiveStage, Why
from headstart.stages.warm_ledger import Account
from tests.monitoring.live_prometheus import LivePrometheus, live_prometheus, needs_prometheus
from tests.monitoring.panel_queries import PanelQuery

pytestmark = [pytest.mark.prometheus, needs_prometheus]

UNACKNOWLEDGED = {Stage.NETWORK, Stage.RENDER}


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics(["small", "large"], "1.2.3")


@pytest.fixture(scope="module")
def url(metrics: Metrics) -> Iterator[str]:
    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.end_headers()
            self.wfile.write(metrics.expose())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def prometheus(
    metrics: Metrics, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LivePrometheus]:
    """A Prometheus that has scraped before the traffic, amid it, and after it."""
    with live_prometheus(url, tmp_path_factory.mktemp("prometheus")) as server:
        server.wait_for_scrape()
        for _ in range(2):
            feed(metrics)
            server.wait_for_scrape()
        yield server


@pytest.fixture(scope="module")
def answers(prometheus: LivePrometheus) -> dict[PanelQuery, dict[str, float]]:
    """Query -> the series it finds, by their label values."""
    (board,) = dashboards.build().values()
    return {
        query: {" ".join(sample.labels.values()): sample.value for sample in samples}
        for query, samples in prometheus.ask_panels(board).items()
    }


def feed(metrics: Metrics) -> None:
    """Make one round of observations of every kind."""
    clock = StageClock()
    for mark in Mark:
        if mark <= Mark.SENT:
            clock.set(mark, 0.02 * mark)
    for model in ("small", "large"):
        for outcome in (Outcome.COMPLETED, Outcome.COMPLETED, Outcome.ENGINE_ERROR):
            meter = metrics.request(Route.CHAT)
            meter.asked_for(model)
            meter.first_frame(0.14, 1)
            meter.frame(0.04, 4)
            end = StreamEnd(100, 64, 5, ("stop",))
            meter.close(outcome, clock, end)
        metrics.set_replicas(model, up=1, known=1)
        metrics.set_load(model, waiting=2, running=3)
        metrics.set_clock_uncertainty(model, 0.0003)
        metrics.speculated(model, speculation())
        for why in Routed:
            metrics.routed(model, why)
    metrics.request(Route.CHAT).close(Outcome.CLIENT_ERROR, StageClock())
    metrics.request(Route.CHAT).moved_to(Stage.QUEUE)
    metrics.set_streams(live=2, finished=7, log_bytes=4096)
    meter_transport(metrics.transport)
    meter_live(metrics)
    metrics.frame_projected(0.00002)
    metrics.loop_lagged(0.001)


def speculation() -> SpeculationCounts:
    sources = {str(source): SourceCounts(4, [4] * 64, [1] * 64) for source in Source}
    return SpeculationCounts(
        plain_steps=50,
        verify_steps=60,
        mixed_steps=5,
        draft_s=0.1,
        verify_s=2.0,
        plain_s=1.0,
        mixed_s=0.5,
        languages={"none": LanguageCounts(10, 25, sources)},
        fallbacks=dict.fromkeys(Undrafted, 1),
        decisions=dict.fromkeys(Decision, 1),
    )


def meter_live(metrics: Metrics) -> None:
    metrics.set_live_sessions(3)
    for kind in EditKind:
        metrics.live_edited(kind)
    for model in ("small", "large"):
        live = metrics.live(model)
        for stage in LiveStage:
            live.passed(stage, 0.002)
        for why in Why:
            live.aborted(why)
        for outcome in ThoughtOutcome:
            live.thought(outcome, 12)
        live.starved(Budget.WARM)
        live.warmed(64, 0.1)
        live.ended(Account(64, 32, 0.1))
        live.committed(100, 96)


def meter_transport(transport: TransportMeter) -> None:
    for kind in CarrierKind:
        transport.connected(kind)
        transport.connected(kind)
        transport.disconnected(kind)
        transport.carried(replaced=1, oversize=1, confirmed=1, lost=1)
    for cause in Cause:
        transport.sent(cause, 300, 100)
    for ack in AckOutcome:
        transport.acked(ack)
    for stall in StallCause:
        transport.shown(Gap(0.3, stall))
    for reason in Fallback:
        transport.fell_back(reason)
    for way, resumed in product(Way, ResumeOutcome):
        transport.resumed(way, resumed)
    for handshake in Handshake:
        transport.held_up(handshake, 1)
    transport.caught_up()
    transport.finished(0.05)


def test_every_panel_finds_data(answers: dict[PanelQuery, dict[str, float]]) -> None:
    assert [str(query) for query, series in answers.items() if not series] == []


def test_no_panel_finds_what_is_not_a_number(
    answers: dict[PanelQuery, dict[str, float]],
) -> None:
    odd = [
        str(query)
        for query, series in answers.items()
        if not all(math.isfinite(value) for value in series.values())
    ]
    assert odd == []


def test_panels_say_what_was_observed(answers: dict[PanelQuery, dict[str, float]]) -> None:
    found = {str(query): series for query, series in answers.items()}

    stages = {stage for stage in Stage if stage not in UNACKNOWLEDGED}
    assert set(found["Mean time per stage, A"]) == stages
    assert all(0.019 < mean < 0.021 for mean in found["Mean time per stage, A"].values())
    assert set(found["Time per stage, p95, A"]) == stages
    assert found["In flight by stage, A"]["queue"] == 2
    assert 0.1 < found["Time to first token, A"][""] < 0.25
    assert found["Time per streamed token, C"][""] == pytest.approx(0.01)
    assert found["Failed by us, A"][""] == pytest.approx(2 / 7)
    assert found["Streams, A"] == {"live": 2, "finished": 7}
    assert found["Replicas up, A"][""] == 2
    assert found["Payload per fresh byte, A"][""] == pytest.approx(3)
    assert found["QUIC connections, A"] == {"plain": 2, "webtransport": 2}
    assert found["Tokens per step, A"] == pytest.approx({"small": 2.5, "large": 2.5})
    assert found["Tokens per step, B"]["none"] == pytest.approx(2.5)
    per_draft = {f"none {source}": 1 + 64 / 4 for source in Source}
    assert found["Tokens of a step with a draft, A"] == pytest.approx(per_draft)
    assert found["Acceptance by position, A"] == dict.fromkeys(Position, 0.25)
    assert found["Clock uncertainty, A"] == {"small": 0.0003, "large": 0.0003}


def test_every_example_in_the_catalogue_is_answered(prometheus: LivePrometheus) -> None:
    assert [metric.name for metric in METRICS if not prometheus.query(metric.query)] == []


def test_aliases_count_the_same_requests(prometheus: LivePrometheus) -> None:
    for alias in ALIASES:
        ours, theirs = (
            prometheus.query(f"sum by (le) ({name}_bucket)")
            for name in (alias.source.name, alias.name)
        )
        assert ours == theirs
        assert any(sample.value > 0 for sample in ours)
