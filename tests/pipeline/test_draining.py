"""A gateway that stops: what has begun may finish, what comes is told to go elsewhere."""

import asyncio
import json

import httpx
import pytest

from headstart.pipeline.gateway import drain
from headstart.pipeline.live_socket import LiveSocket
from tests.pipeline.live_client import live
from tests.support.events import events, text
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.raw_http import connected
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

DETACHED = {"x_headstart_detach": "1"}


async def status(gateway: Gateway, path: str) -> int:
    """The status of a GET."""
    return (await soon(gateway.client.get(path))).status_code


async def test_running_answer_finishes_while_new_ones_are_refused() -> None:
    async with serving(speeds(tokens_per_s=200.0)) as gateway:
        asking = asyncio.ensure_future(gateway.stream(json=saying(stream=True, max_tokens=100)))
        await eventually(lambda: gateway.replica.engine.load().running == 1)

        draining = asyncio.ensure_future(
            drain(gateway.pool, gateway.streams, gateway.live_prompts, 60)
        )
        await eventually(lambda: gateway.pool.is_draining)

        assert await status(gateway, "/readyz") == httpx.codes.SERVICE_UNAVAILABLE
        assert await status(gateway, "/healthz") == httpx.codes.OK
        late = await soon(gateway.client.post(CHAT, json=saying()))
        assert late.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert late.headers["retry-after"] == "1"
        assert not draining.done()
        assert len(text(await soon(asking)).split()) == 100
        assert 0 < await soon(draining) < 60


async def test_detached_answer_can_be_fetched_until_it_is_whole() -> None:
    async with serving(speeds(tokens_per_s=200.0)) as gateway:
        async with connected(gateway.address) as connection:
            connection.post(CHAT, saying(stream=True, max_tokens=100), **DETACHED)
            await connection.until(b'"content":" ')
            stream = gateway.live

        draining = asyncio.ensure_future(
            drain(gateway.pool, gateway.streams, gateway.live_prompts, 60)
        )
        await eventually(lambda: gateway.pool.is_draining)

        answer = await soon(gateway.client.get(f"/v1/streams/{stream.id}"))
        assert len(text(answer.content).split()) == 100
        await soon(draining)


async def test_what_takes_too_long_ends_with_an_event_that_says_so() -> None:
    async with serving(speeds(tokens_per_s=200.0)) as gateway:
        asking = asyncio.ensure_future(gateway.stream(json=saying(stream=True, max_tokens=100_000)))
        await eventually(lambda: gateway.replica.engine.load().running == 1)

        assert await soon(drain(gateway.pool, gateway.streams, gateway.live_prompts, 0.05)) == 0

        *_, error, end = events(await soon(asking))
        said = json.loads(error.data)["error"]
        assert said["code"] == httpx.codes.SERVICE_UNAVAILABLE
        assert "this gateway was stopped before the answer was complete" in said["message"]
        assert end.data == "[DONE]"
        await gateway.replica.idle(5)


async def test_idle_gateway_is_drained_at_once(gateway: Gateway) -> None:
    assert await soon(drain(gateway.pool, gateway.streams, gateway.live_prompts, 60)) > 50


async def test_live_prompts_end_while_what_they_came_to_can_be_asked_for() -> None:
    answers = serving(speeds(tokens_per_s=200.0, answer_tokens=40))
    async with answers as gateway, live(gateway) as idle, live(gateway) as asking:
        await idle.type("word " * 200)
        computed = (await idle.until_warm(192))["warm_tokens"]
        await asking.type("Name three colours.")
        await asking.say("input_text.commit")
        await asking.until("response.output_text.delta")

        (carrier,) = [
            one.session.watcher
            for one in gateway.live_prompts._kept.values()
            if one.session.is_answering
        ]
        assert isinstance(carrier, LiveSocket)
        async with carrier._writing:  # the client is slow to read
            draining = asyncio.ensure_future(
                drain(gateway.pool, gateway.streams, gateway.live_prompts, 60)
            )
            await eventually(lambda: not gateway.pool.up("fake"))
            for _ in range(20):
                await asyncio.sleep(0)
        await soon(draining)

        assert await status(gateway, "/metrics") == httpx.codes.OK
        wasted = gateway.exposition().value("headstart_live_wasted_tokens_total", model="fake")
        assert wasted == computed
        assert (await asking.until("response.done"))["response"]["status"] == "completed"
        for client in (idle, asking):
            assert (await client.error())["code"] == "session_ended"
