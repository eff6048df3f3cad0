"""The Responses API at the gateway: its named events resumed, timed, cancelled and cut short."""

import json
from typing import Any

import httpx
import pytest

from tests.support.gateway import Gateway, serving, speeds
from tests.support.raw_http import connected
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

RESPONSES = "/v1/responses"
ASKED: dict[str, Any] = {"model": "fake", "input": "Name three colours.", "stream": True}
DETACHED = {"x-headstart-detach": "1"}


def events(body: bytes) -> list[dict[str, str]]:
    """The fields of each event."""
    assert body.endswith(b"\n\n")
    blocks = body.decode()[:-2].split("\n\n")
    lines = [[line.partition(": ") for line in block.split("\n")] for block in blocks]
    return [{name: value for name, _, value in fields} for fields in lines]


def data(body: bytes) -> list[Any]:
    return [json.loads(event["data"]) for event in events(body)]


async def test_streamed_response(gateway: Gateway) -> None:
    body = await gateway.stream(RESPONSES, json=ASKED)
    whole = await soon(gateway.client.post(RESPONSES, json=ASKED | {"stream": False}))

    said = data(body)
    assert [event["event"] for event in events(body)] == [one["type"] for one in said]
    assert [one["sequence_number"] for one in said] == list(range(len(said)))
    text = "".join(one["delta"] for one in said if "delta" in one)
    assert text == whole.json()["output"][0]["content"][0]["text"]
    assert said[-1]["type"] == "response.completed"
    assert said[-1]["response"]["output"] != []
    assert b"[DONE]" not in body


async def test_every_cursor_gives_exactly_the_rest(gateway: Gateway) -> None:
    body = await gateway.stream(RESPONSES, json=ASKED, headers=DETACHED)
    path = f"/v1/streams/{gateway.replica.requests[0].stream_id}"

    found = events(body)
    blocks = body.split(b"\n\n")[:-1]
    for number, event in enumerate(found[:-1], 1):
        rest = await soon(gateway.client.get(path, headers={"last-event-id": event["id"]}))
        assert rest.content == b"".join(block + b"\n\n" for block in blocks[number:])
    last = await soon(gateway.client.get(path, params={"after": found[-1]["id"]}))
    assert last.status_code == httpx.codes.NO_CONTENT


@pytest.mark.parametrize("headers", [{}, DETACHED], ids=["plain", "detached"])
async def test_last_event_says_where_the_time_went(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    asked = ASKED | {"headstart": {"timing": True}}

    body = await gateway.stream(RESPONSES, json=asked, headers=headers)

    *others, last = data(body)
    timing = last.pop("headstart")["timing"]
    assert timing["is_finished"]
    assert timing["output_tokens"] == 8
    assert "prefill" in timing["stages_s"]
    assert set(last) == {"response", "sequence_number", "type"}
    assert not any("headstart" in other for other in others)


async def test_whole_response_says_where_the_time_went(gateway: Gateway) -> None:
    asked = ASKED | {"stream": False, "headstart": {"timing": True}}

    answer = await soon(gateway.client.post(RESPONSES, json=asked))

    assert answer.json()["headstart"]["timing"]["output_tokens"] == 8


async def test_response_ends_with_its_connection() -> None:
    async with serving(speeds(stage_delays_s={"decode": 60.0})) as gateway:
        async with connected(gateway.address) as connection:
            connection.post(RESPONSES, ASKED)
            await connection.until(b"response.output_text.delta")
            connection.hang_up()

        await gateway.replica.idle(within_s=5)
        await gateway.unused()


@pytest.mark.parametrize("is_cancelled", [True, False], ids=["cancelled", "lost"])
async def test_response_that_is_cut_short_says_so(is_cancelled: bool) -> None:
    async with (
        serving(speeds(stage_delays_s={"decode": 60.0})) as gateway,
        connected(gateway.address) as connection,
    ):
        connection.post(RESPONSES, ASKED)
        await connection.until(b"response.output_text.delta")
        if is_cancelled:
            await soon(gateway.client.delete(f"/v1/streams/{gateway.live.id}"))
        else:
            await gateway.replica.die()

        end = await connection.until(b"\r\n0\r\n\r\n")

    assert end.count(b"event: error\ndata: ") == 1
    event = end[end.index(b"event: error\n") :].split(b"\n")[1]
    error = json.loads(event.removeprefix(b"data: "))
    assert (error["type"], error["sequence_number"]) == ("error", 5)
    assert error["message"] == error["error"]["message"]
    assert error["error"]["type"] == (
        "CancelledError" if is_cancelled else "ServiceUnavailableError"
    )
    assert b"[DONE]" not in end


async def test_metrics_name_the_route(gateway: Gateway) -> None:
    await gateway.stream(RESPONSES, json=ASKED)
    await gateway.unused()

    routes = {
        dict(labels).get("route")
        for (name, labels), value in gateway.exposition().values.items()
        if name == "headstart_requests_total" and value
    }
    assert routes == {"response"}
