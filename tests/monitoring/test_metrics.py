"""What each call changes in the exposition, to the sample."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from headstart.monitoring.labels import Outcome, Route
from headstart.monitoring.metrics import Metrics, RequestMeter
from headstart.stages.mirror import StreamEnd
from headstart.stages.speculation_counts import LanguageCounts, SourceCounts, SpeculationCounts
from headstart.stages.stage_clock import Mark, Stage, StageClock
from tests.monitoring.exposition import Exposition


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(["small", "large"], "1.2.3", languages={"small": ("de", "en")})


@pytest.fixture
def meter(metrics: Metrics) -> RequestMeter:
    meter = metrics.request(Route.CHAT)
    meter.asked_for("small")
    return meter


def changes(metrics: Metrics, call: Callable[[], None]) -> dict[str, float]:
    before = Exposition.parse(metrics.expose())
    call()
    return Exposition.parse(metrics.expose()).changes(before)


def clock(step_s: float = 0.5, last: Mark = Mark.SENT) -> StageClock:
    """A clock that has passed every mark up to `last`, `step_s` apart."""
    passed = StageClock()
    for mark in Mark:
        if mark <= last:
            passed.set(mark, 100 + step_s * mark)
    return passed


def closing(
    metrics: Metrics, meter: RequestMeter, end: StreamEnd | None, outcome: Outcome
) -> dict[str, float]:
    """Changes made by `close`, without those of the stage clock."""
    found = changes(metrics, lambda: meter.close(outcome, clock(), end))
    return {name: by for name, by in found.items() if not name.startswith("headstart_stage_")}


def test_request_is_counted_in_one_stage_at_a_time(metrics: Metrics) -> None:
    meter = metrics.request(Route.CHAT)
    parse, queue = (f"headstart_stage_inflight{{stage={stage}}}" for stage in ("parse", "queue"))

    assert changes(metrics, lambda: meter.moved_to(Stage.QUEUE)) == {parse: -1, queue: 1}
    assert changes(metrics, lambda: meter.moved_to(Stage.QUEUE)) == {}
    assert changes(metrics, lambda: meter.moved_to(None)) == {queue: -1}


def test_closed_request_is_in_no_stage(metrics: Metrics) -> None:
    meter = metrics.request(Route.CHAT)
    meter.moved_to(Stage.DECODE)
    meter.close(Outcome.CANCELLED, StageClock())
    meter.moved_to(Stage.SEND)

    found = Exposition.parse(metrics.expose())
    assert all(found.value("headstart_stage_inflight", stage=stage) == 0 for stage in Stage)


def test_first_frame(metrics: Metrics, meter: RequestMeter) -> None:
    assert changes(metrics, lambda: meter.first_frame(0.25, 2)) == {
        "headstart_ttft_seconds_count{model=small}": 1,
        "headstart_ttft_seconds_sum{model=small}": 0.25,
        "gen_ai_server_time_to_first_token_seconds_count{gen_ai_request_model=small}": 1,
        "gen_ai_server_time_to_first_token_seconds_sum{gen_ai_request_model=small}": 0.25,
        "headstart_output_tokens_total{model=small}": 2,
    }


def test_later_frame_shares_its_gap_among_its_tokens(metrics: Metrics, meter: RequestMeter) -> None:
    assert changes(metrics, lambda: meter.frame(0.12, 3)) == {
        "headstart_inter_frame_seconds_count{model=small}": 1,
        "headstart_inter_frame_seconds_sum{model=small}": 0.12,
        "headstart_inter_token_seconds_count{model=small}": 3,
        "headstart_inter_token_seconds_sum{model=small}": 0.12,
        "headstart_output_tokens_total{model=small}": 3,
    }
    found = Exposition.parse(metrics.expose())
    bucket = "headstart_inter_token_seconds_bucket"
    assert found.value(bucket, model="small", le="0.03") == 0
    assert found.value(bucket, model="small", le="0.05") == 3


def test_frame_without_tokens_counts_for_nothing(metrics: Metrics, meter: RequestMeter) -> None:
    assert changes(metrics, lambda: meter.frame(0.12, 0)) == {}


def test_close_observes_every_stage_with_both_marks(metrics: Metrics, meter: RequestMeter) -> None:
    at_first_token = clock(last=Mark.FIRST_TOKEN)

    found = changes(metrics, lambda: meter.close(Outcome.CANCELLED, at_first_token))

    name = "headstart_stage_duration_seconds"
    passed = ("parse", "auth", "route", "hop", "tokenise", "queue", "prefill")
    assert found == {
        **{f"{name}_count{{model=small,stage={stage}}}": 1 for stage in passed},
        **{f"{name}_sum{{model=small,stage={stage}}}": 0.5 for stage in passed},
        "headstart_stage_inflight{stage=parse}": -1,
        "headstart_requests_total{model=small,outcome=cancelled,route=chat}": 1,
    }


def test_completed_answer(metrics: Metrics, meter: RequestMeter) -> None:
    meter.first_frame(0.1, 1)
    meter.frame(0.1, 2)
    end = StreamEnd(prompt_tokens=40, cached_tokens=32, output_tokens=6, finish_reasons=("length",))

    found = closing(metrics, meter, end, Outcome.COMPLETED)

    assert found == {
        "headstart_requests_total{model=small,outcome=completed,route=chat}": 1,
        "headstart_prompt_tokens_total{model=small}": 40,
        "headstart_cached_prompt_tokens_total{model=small}": 32,
        "headstart_output_tokens_total{model=small}": 3,
        "headstart_finish_reasons_total{model=small,reason=length}": 1,
        "headstart_request_duration_seconds_count{model=small}": 1,
        "headstart_request_duration_seconds_sum{model=small}": 5.5,
        "gen_ai_server_request_duration_seconds_count{gen_ai_request_model=small}": 1,
        "gen_ai_server_request_duration_seconds_sum{gen_ai_request_model=small}": 5.5,
        "headstart_time_per_output_token_seconds_count{model=small}": 1,
        "headstart_time_per_output_token_seconds_sum{model=small}": 0.1,
        "gen_ai_server_time_per_output_token_seconds_count{gen_ai_request_model=small}": 1,
        "gen_ai_server_time_per_output_token_seconds_sum{gen_ai_request_model=small}": 0.1,
    }


@pytest.mark.parametrize(
    "end",
    [
        StreamEnd(output_tokens=1, finish_reasons=("stop",)),
        StreamEnd(output_tokens=8, finish_reasons=("stop", "stop")),
        StreamEnd(),
        None,
    ],
    ids=["one token", "two choices", "engine not reached", "no end"],
)
def test_answer_without_a_pace_has_no_time_per_token(
    metrics: Metrics, meter: RequestMeter, end: StreamEnd | None
) -> None:
    found = closing(metrics, meter, end, Outcome.COMPLETED)
    assert not [name for name in found if "per_output_token" in name]


def test_cancelled_answer_counts_as_aborted(metrics: Metrics, meter: RequestMeter) -> None:
    found = closing(metrics, meter, StreamEnd(is_aborted=True), Outcome.CANCELLED)

    assert found["headstart_finish_reasons_total{model=small,reason=abort}"] == 1


def test_duration_is_of_completed_requests_only(metrics: Metrics, meter: RequestMeter) -> None:
    assert closing(metrics, meter, None, Outcome.ENGINE_ERROR) == {
        "headstart_requests_total{model=small,outcome=engine_error,route=chat}": 1
    }


def test_only_the_first_close_counts(metrics: Metrics, meter: RequestMeter) -> None:
    meter.close(Outcome.COMPLETED, clock())
    assert changes(metrics, lambda: meter.close(Outcome.CANCELLED, clock())) == {}


def test_refused_request_has_no_model(metrics: Metrics) -> None:
    meter = metrics.request(Route.COMPLETION)
    found = closing(metrics, meter, None, Outcome.CLIENT_ERROR)
    assert found == {"headstart_requests_total{model=,outcome=client_error,route=completion}": 1}


@pytest.mark.parametrize(
    "call",
    [
        lambda metrics: metrics.request(Route.CHAT).asked_for("typed"),
        lambda metrics: metrics.set_replicas("typed", up=1, known=1),
        lambda metrics: metrics.set_load("typed", waiting=1, running=1),
        lambda metrics: metrics.set_clock_uncertainty("typed", 0.1),
    ],
    ids=["request", "replicas", "load", "clock"],
)
def test_unconfigured_model_makes_no_series(
    metrics: Metrics, call: Callable[[Metrics], None]
) -> None:
    with pytest.raises(KeyError):
        call(metrics)
    assert b"typed" not in metrics.expose()


def test_traffic_makes_no_series(metrics: Metrics, meter: RequestMeter) -> None:
    before = set(Exposition.parse(metrics.expose()).values)
    meter.first_frame(0.1, 1)
    meter.frame(0.1, 1)
    meter.close(Outcome.COMPLETED, clock(), StreamEnd(finish_reasons=("a word of its own",)))
    metrics.request(Route.OTHER).close(Outcome.CLIENT_ERROR, StageClock())

    assert set(Exposition.parse(metrics.expose()).values) == before


def test_what_the_process_states_about_itself(metrics: Metrics) -> None:
    def state_all() -> None:
        metrics.set_streams(live=3, finished=4, log_bytes=500)
        metrics.set_replicas("small", up=1, known=2)
        metrics.set_load("small", waiting=5, running=6)
        metrics.frame_projected(0.00002)
        metrics.loop_lagged(0.003)

    assert changes(metrics, state_all) == {
        "headstart_streams{state=live}": 3,
        "headstart_streams{state=finished}": 4,
        "headstart_log_bytes{}": 500,
        "headstart_replicas{model=small,state=up}": 1,
        "headstart_replicas{model=small,state=known}": 2,
        "headstart_replica_waiting_requests{model=small}": 5,
        "headstart_replica_running_requests{model=small}": 6,
        "headstart_frame_project_seconds_count{}": 1,
        "headstart_frame_project_seconds_sum{}": 0.00002,
        "headstart_event_loop_lag_seconds_count{}": 1,
        "headstart_event_loop_lag_seconds_sum{}": 0.003,
    }


def test_clock_uncertainty_is_infinite_until_known(metrics: Metrics) -> None:
    name = "headstart_clock_offset_uncertainty_seconds"
    assert Exposition.parse(metrics.expose()).value(name, model="small") == float("inf")
    metrics.set_clock_uncertainty("small", 0.0002)
    assert Exposition.parse(metrics.expose()).value(name, model="small") == 0.0002


def test_build_info_names_the_version(metrics: Metrics) -> None:
    assert Exposition.parse(metrics.expose()).value("headstart_build_info", version="1.2.3") == 1


@pytest.mark.prometheus
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say(metrics: Metrics, meter: RequestMeter) -> None:
    meter.first_frame(0.1, 1)
    lint = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics.expose(), capture_output=True, check=False
    )
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")


def test_speculation_is_counted_by_source_position_and_language(metrics: Metrics) -> None:
    copied = SourceCounts(2, [2, 2, 1, 1, 1, 1], [2, 1, 0, 0, 0, 0])
    news = SpeculationCounts(
        plain_steps=1,
        verify_steps=2,
        mixed_steps=3,
        draft_s=0.25,
        verify_s=2.0,
        plain_s=1.0,
        mixed_s=0.5,
        languages={
            "de": LanguageCounts(4, 9, {"copy": copied}),
            "none": LanguageCounts(1, 1, {"jacobi": SourceCounts(1, [1], [0])}),
        },
        fallbacks={"seed": 2},
        decisions={"draft": 2, "no_gain": 4},
    )

    found = changes(metrics, lambda: metrics.speculated("small", news))

    def tokens(kind: str, position: str) -> str:
        return (
            f"headstart_{kind}_tokens_total"
            f"{{language=de,model=small,position={position},source=copy}}"
        )

    none = "language=none,model=small"
    assert found == {
        "headstart_decode_rows_total{language=de,model=small}": 4,
        "headstart_decode_tokens_total{language=de,model=small}": 9,
        f"headstart_decode_rows_total{{{none}}}": 1,
        f"headstart_decode_tokens_total{{{none}}}": 1,
        "headstart_draft_seconds_total{model=small}": 0.25,
        "headstart_decode_seconds_total{kind=plain,model=small}": 1.0,
        "headstart_decode_seconds_total{kind=verify,model=small}": 2.0,
        "headstart_decode_seconds_total{kind=mixed,model=small}": 0.5,
        "headstart_decode_steps_total{kind=plain,model=small}": 1,
        "headstart_decode_steps_total{kind=verify,model=small}": 2,
        "headstart_decode_steps_total{kind=mixed,model=small}": 3,
        "headstart_draft_decisions_total{decision=draft,model=small}": 2,
        "headstart_draft_decisions_total{decision=no_gain,model=small}": 4,
        "headstart_undrafted_total{model=small,reason=seed}": 2,
        "headstart_drafts_total{language=de,model=small,source=copy}": 2,
        f"headstart_drafts_total{{{none},source=jacobi}}": 1,
        tokens("drafted", "1"): 2,
        tokens("drafted", "2"): 2,
        tokens("drafted", "3"): 1,
        tokens("drafted", "4"): 1,
        tokens("drafted", "5-8"): 2,
        tokens("accepted", "1"): 2,
        tokens("accepted", "2"): 1,
        f"headstart_drafted_tokens_total{{{none},position=1,source=jacobi}}": 1,
    }


def test_language_that_a_model_does_not_declare_makes_no_series(metrics: Metrics) -> None:
    before = set(Exposition.parse(metrics.expose()).values)
    news = SpeculationCounts(languages={"typed": LanguageCounts(4, 9)})

    found = changes(metrics, lambda: metrics.speculated("small", news))

    assert found == {
        "headstart_decode_rows_total{language=other,model=small}": 4,
        "headstart_decode_tokens_total{language=other,model=small}": 9,
    }
    assert set(Exposition.parse(metrics.expose()).values) == before
