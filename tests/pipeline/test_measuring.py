"""What a request leaves in the metrics."""

import httpx
import pytest

from headstart.monitoring.labels import Outcome, Route
from headstart.monitoring.metrics import CONTENT_TYPE
from headstart.stages.stage_clock import Stage
from tests.monitoring.exposition import Exposition
from tests.support.gateway import CHAT, COMPLETIONS, Gateway, saying, serving, speeds
from tests.support.raw_http import connected
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

NUM_TOKENS = 6
MEASURED = [stage for stage in Stage if stage not in (Stage.NETWORK, Stage.RENDER)]


async def changes(gateway: Gateway, path: str, **fields: object) -> dict[str, float]:
    """Send one request and return what it changed, by name without prefix and model."""
    before = gateway.exposition()
    body = saying() if path == CHAT else {"prompt": "a"}
    await soon(gateway.client.post(path, json=body | {"max_tokens": NUM_TOKENS} | fields))
    await gateway.unused()
    found = gateway.exposition().changes(before)
    return {
        name.removeprefix("headstart_")
        .replace("model=fake", "")
        .replace("{,", "{")
        .replace("{}", ""): value
        for name, value in found.items()
        if name.startswith("headstart_")
    }


@pytest.mark.parametrize(("path", "route"), [(CHAT, Route.CHAT), (COMPLETIONS, Route.COMPLETION)])
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_completed_request(
    gateway: Gateway, path: str, route: Route, is_streamed: bool
) -> None:
    found = await changes(gateway, path, stream=is_streamed)

    assert found[f"requests_total{{outcome={Outcome.COMPLETED},route={route}}}"] == 1
    assert found["finish_reasons_total{reason=length}"] == 1
    assert found["output_tokens_total"] == NUM_TOKENS
    assert found["prompt_tokens_total"] == (6 if path == CHAT else 1)
    assert found["request_duration_seconds_count"] == 1
    assert found["time_per_output_token_seconds_count"] == 1
    stages = {name for name in found if name.startswith("stage_duration_seconds_count")}
    assert {name.split("stage=")[1].rstrip("}") for name in stages} == {*MEASURED}
    streamed = {
        "ttft_seconds_count": 1,
        "inter_token_seconds_count": NUM_TOKENS - 1,
    }
    assert {name: found.get(name, 0) for name in streamed} == (
        streamed if is_streamed else dict.fromkeys(streamed, 0)
    )
    total = sum(
        value for name, value in found.items() if name.startswith("stage_duration_seconds_sum")
    )
    (link,) = gateway.pool.up("fake")
    error_s = 2 * link.clock.uncertainty_s + 1e-5
    assert total == pytest.approx(found["request_duration_seconds_sum"], abs=error_s)


@pytest.mark.parametrize(
    ("fields", "outcome", "has_model"),
    [
        ({"max_tokens": 0}, Outcome.CLIENT_ERROR, True),
        ({"model": "unheard-of"}, Outcome.CLIENT_ERROR, False),
        ({"headstart": {"speed": 11}}, Outcome.CLIENT_ERROR, False),
    ],
)
async def test_refused_request(
    gateway: Gateway, fields: dict[str, object], outcome: Outcome, has_model: bool
) -> None:
    before = gateway.exposition()

    await soon(gateway.client.post(CHAT, json=saying() | fields))

    await gateway.unused()
    labels = {"model": "fake" if has_model else "", "outcome": outcome, "route": Route.CHAT}
    name = "headstart_requests_total"
    assert gateway.exposition().value(name, **labels) - before.value(name, **labels) == 1
    assert gateway.count(outcome) == 1
    found = gateway.exposition().changes(before)
    assert not any("ttft" in name or "output_tokens" in name for name in found)


async def test_whatever_a_client_types_makes_no_series(gateway: Gateway) -> None:
    before = set(gateway.exposition().values)

    for model in ("x", "y", "z"):
        await soon(gateway.client.post(CHAT, json=saying() | {"model": model}))
        await soon(gateway.client.get(f"/v1/streams/{model}"))
        await soon(gateway.client.get(f"/{model}"))
    await gateway.stream()

    assert set(gateway.exposition().values) == before


@pytest.mark.parametrize(
    ("delay", "stage"),
    [
        ("tokenise", Stage.TOKENISE),
        ("queue", Stage.QUEUE),
        ("prefill", Stage.QUEUE),  # that it is scheduled shows with its first token only
        ("decode", Stage.DECODE),
    ],
)
async def test_request_in_flight_is_in_one_stage(delay: str, stage: Stage) -> None:
    def by_stage(found: Exposition) -> dict[str, float]:
        name = "headstart_stage_inflight"
        return {one: value for one in Stage if (value := found.value(name, stage=one))}

    async with serving(speeds(stage_delays_s={delay: 60.0})) as gateway:
        async with connected(gateway.address) as connection:
            connection.post(CHAT, saying(stream=True))

            await eventually(lambda: by_stage(gateway.exposition()) == {stage: 1})

            connection.hang_up()
        await gateway.unused()
        assert by_stage(gateway.exposition()) == {}
        assert gateway.count(Outcome.CANCELLED) == 1


async def test_metrics_are_served_as_prometheus_reads_them(gateway: Gateway) -> None:
    await gateway.stream()
    await gateway.unused()

    answer = await soon(gateway.client.get("/metrics"))

    assert (answer.status_code, answer.headers["content-type"]) == (httpx.codes.OK, CONTENT_TYPE)
    served, held = Exposition.parse(answer.content), gateway.exposition()
    assert served.changes(held) == held.changes(served) == {}


async def test_frames_cost_is_observed_for_each_written_frame(gateway: Gateway) -> None:
    found = await changes(gateway, CHAT, stream=True)

    # Role, tokens (the last with the finish reason), end mark.
    assert found["frame_project_seconds_count"] == 1 + NUM_TOKENS + 1
