"""What a client sees when the cluster fails it, and that the gateway recovers."""

import asyncio
import json

import httpx
import pytest

from headstart.monitoring.labels import Outcome
from headstart.stages.stage_clock import Mark
from tests.support.events import events
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.raw_http import connected
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

ENDLESS = 100_000


async def test_replica_that_dies_ends_a_stream_with_an_error_event(gateway: Gateway) -> None:
    async with connected(gateway.address) as connection:
        connection.post(CHAT, saying(stream=True, max_tokens=ENDLESS))
        await connection.until(b'"content":" ')

        await gateway.replica.die()

        rest = await connection.all_until(b"\r\n0\r\n\r\n")
    error, end = (line for line in rest.decode().splitlines()[-8:] if line.startswith("data: "))
    assert json.loads(error.removeprefix("data: "))["error"] == {
        "message": "the replica was lost while it answered",
        "type": "ServiceUnavailableError",
        "param": None,
        "code": 503,
    }
    assert end == "data: [DONE]"
    await gateway.unused()
    assert gateway.count(Outcome.ENGINE_ERROR) == 1


async def test_replica_that_dies_before_a_body_is_a_503() -> None:
    async with serving(speeds(time_to_first_token_s=60.0)) as gateway:
        asking = asyncio.ensure_future(gateway.client.post(CHAT, json=saying()))
        await eventually(lambda: gateway.replica.engine.load().running == 1)

        await gateway.replica.die()

        answer = await soon(asking)
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["error"]["type"] == "ServiceUnavailableError"
        await gateway.unused()
        assert gateway.count(Outcome.ENGINE_ERROR) == 1


async def test_replica_that_dies_before_the_first_token_ends_a_stream_alike() -> None:
    async with serving(speeds(time_to_first_token_s=60.0)) as gateway:
        asking = asyncio.ensure_future(gateway.stream())
        await eventually(
            lambda: (
                [one.clock.get(Mark.TOKENISED) is not None for one in gateway.streams.live]
                == [True]
            )
        )

        await gateway.replica.die()

        error, end = events(await soon(asking))
        assert json.loads(error.data)["error"]["code"] == httpx.codes.SERVICE_UNAVAILABLE
        assert end.data == "[DONE]"


async def test_error_event_can_be_read_again() -> None:
    async with serving(speeds(tokens_per_s=50.0)) as gateway:
        async with connected(gateway.address) as connection:
            connection.post(CHAT, saying(stream=True, max_tokens=ENDLESS))
            await connection.until(b'"content":" ')
            stream = gateway.live
            await gateway.replica.die()
            await soon(stream.finished())

        again = await soon(gateway.client.get(f"/v1/streams/{stream.id}"))

        *_, error, end = events(again.content)
        assert "error" in json.loads(error.data)
        assert (error.id, end.data) == (None, "[DONE]")


async def test_without_a_replica_nothing_can_be_answered() -> None:
    async with serving(is_connected=False) as gateway:
        for method, path, body in (
            ("POST", CHAT, saying()),
            ("POST", CHAT, saying(stream=True)),
            ("GET", "/v1/models", None),
            ("GET", "/readyz", None),
        ):
            answer = await soon(gateway.client.request(method, path, json=body))
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["error"]["type"] == "ServiceUnavailableError"
        assert (await soon(gateway.client.get("/healthz"))).status_code == httpx.codes.OK
        assert gateway.count(Outcome.ENGINE_ERROR) == 2


async def test_ready_only_when_every_model_can_be_answered() -> None:
    async with serving(speeds("one"), speeds("two")) as gateway:
        assert (await soon(gateway.client.get("/readyz"))).status_code == httpx.codes.OK

        await gateway.replicas[1].die()
        await eventually(lambda: not gateway.pool.up("two"))

        answer = await soon(gateway.client.get("/readyz"))
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert "two" in answer.json()["error"]["message"]
        models = (await soon(gateway.client.get("/v1/models"))).json()["data"]
        assert [model["id"] for model in models] == ["one"]


async def test_other_replicas_answer_when_one_has_died() -> None:
    async with serving(speeds(), speeds()) as gateway:
        await gateway.replicas[0].die()
        await eventually(lambda: len(gateway.pool.up("fake")) == 1)

        for _ in range(3):
            assert await gateway.stream()

        assert len(gateway.replicas[1].requests) == 3


async def test_replica_that_leaves_the_table_is_asked_no_more(gateway: Gateway) -> None:
    gateway.pool.update([])

    answer = await soon(gateway.client.post(CHAT, json=saying()))

    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    await gateway.connect()
    assert await gateway.stream()
