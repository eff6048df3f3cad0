"""What one key may have: answers at once, requests and tokens a minute."""

import asyncio
from typing import Any

import httpx
import openai
import pytest

from headstart.monitoring.labels import Outcome, Refusal
from tests.pipeline.test_access import ALICE, BOB, MESSAGES, ask, auth, client, key, keys, refused
from tests.support.gateway import CHAT, DATA_PLANE, Gateway, saying, serving, speeds, table
from tests.support.raw_http import connected
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

ENDLESS = 100_000


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def post(gateway: Gateway, clear: str = ALICE, **fields: Any) -> httpx.Response:
    return await soon(gateway.client.post(CHAT, json=saying(**fields), headers=auth(clear)))


async def test_no_more_requests_a_minute_than_the_key_may_send() -> None:
    clock = Clock()
    access = keys(key(ALICE, requests_per_minute=2), key(BOB))
    async with serving(access=access, now=clock) as gateway:
        assert [(await post(gateway)).status_code for _ in range(2)] == [200, 200]

        over = await post(gateway)

        error = over.json()["error"]
        assert (over.status_code, error["type"], error["code"]) == (429, "RateLimitError", 429)
        assert "requests_per_minute" in error["message"]
        assert over.headers["retry-after"] == "30"
        assert over.headers["x-ratelimit-limit-requests"] == "2"
        assert over.headers["x-ratelimit-remaining-requests"] == "0"
        assert over.headers["x-ratelimit-reset-requests"] == "60.000s"
        assert "x-should-retry" not in over.headers
        assert (await post(gateway, BOB)).status_code == 200
        clock.now += 30
        assert (await post(gateway)).status_code == 200
        assert refused(gateway, Refusal.RATE_LIMITED) == 1
        assert gateway.count(Outcome.CLIENT_ERROR) == 1


async def test_openai_client_calls_it_a_rate_limit() -> None:
    async with serving(access=keys(key(ALICE, requests_per_minute=1)), now=Clock()) as gateway:
        await ask(gateway, ALICE)

        with pytest.raises(openai.RateLimitError) as caught:
            await ask(gateway, ALICE)
        assert caught.value.response.headers["retry-after"] == "60"


async def test_openai_client_comes_back_by_itself() -> None:
    """It waits as long as it is told: here a second, the answer's whole length."""
    slow = speeds(time_to_first_token_s=0.5)
    async with serving(slow, access=keys(key(ALICE, max_concurrent=1))) as gateway:
        async with client(gateway, ALICE, max_retries=2) as patient:
            answers = await soon(
                asyncio.gather(
                    *(
                        patient.chat.completions.create(model="fake", messages=MESSAGES)
                        for _ in range(2)
                    )
                )
            )

        assert all(answer.choices[0].message.content for answer in answers)
        assert refused(gateway, Refusal.RATE_LIMITED) >= 1


async def test_tokens_are_charged_when_the_answer_ends() -> None:
    clock = Clock()
    async with serving(access=keys(key(ALICE, tokens_per_minute=60)), now=clock) as gateway:
        answer = await post(gateway, max_tokens=80)
        usage = answer.json()["usage"]["total_tokens"]
        assert answer.headers["x-ratelimit-limit-tokens"] == "60"

        over = await post(gateway)

        assert over.status_code == 429
        assert "tokens_per_minute" in over.json()["error"]["message"]
        assert int(over.headers["retry-after"]) == usage - 60 + 1
        clock.now += usage - 60 + 1
        assert (await post(gateway)).status_code == 200


@pytest.mark.parametrize("is_detached", [False, True])
async def test_what_there_was_is_charged_when_the_replica_is_lost(is_detached: bool) -> None:
    model, access = speeds(tokens_per_s=200.0), keys(key(ALICE, tokens_per_minute=30))
    lost = DATA_PLANE.model_copy(update={"max_failovers": 0})
    async with serving(model, access=access, now=Clock(), data_plane=lost) as gateway:
        async with connected(gateway.address) as connection:
            body = saying(stream=True, max_tokens=ENDLESS, headstart={"detach": is_detached})
            connection.post(CHAT, body, **auth(ALICE))
            await eventually(lambda: bool(gateway.streams.live))
            stream = gateway.live
            await eventually(
                lambda: sum(len(frame.tokens) for _, frame in stream.log.frames(0)) > 40
            )
            await gateway.replica.die()
            await soon(stream.finished())

        delivered = sum(len(frame.tokens) for _, frame in stream.log.frames(0))
        over = await post(gateway)

        assert stream.end is not None
        assert stream.end.failure is not None
        assert stream.end.output_tokens == delivered
        assert stream.end.prompt_tokens > 0
        assert (over.status_code, over.json()["error"]["type"]) == (429, "RateLimitError")
        owed = delivered + stream.end.prompt_tokens - 30
        assert int(over.headers["retry-after"]) == 2 * (owed + 1)


@pytest.mark.parametrize("is_detached", [False, True])
async def test_place_is_taken_until_the_answer_ends(is_detached: bool) -> None:
    slow = speeds(tokens_per_s=50.0)
    async with serving(slow, access=keys(key(ALICE, max_concurrent=1), key(BOB))) as gateway:
        async with connected(gateway.address) as connection:
            body = saying(stream=True, max_tokens=ENDLESS, headstart={"detach": is_detached})
            connection.post(CHAT, body, **auth(ALICE))
            await connection.until(b'"content":" ')

            assert (await post(gateway)).status_code == 429
            assert (await post(gateway, BOB, max_tokens=1)).status_code == 200
            connection.hang_up()
        if is_detached:
            assert (await post(gateway)).status_code == 429
            path = f"/v1/streams/{gateway.live.id}"
            assert (await soon(gateway.client.delete(path, headers=auth(ALICE)))).is_success
        await eventually(lambda: not gateway.streams.live)
        assert (await post(gateway, max_tokens=1)).status_code == 200


async def test_what_reaches_no_engine_costs_no_place() -> None:
    access = keys(key(ALICE, max_concurrent=1, tokens_per_minute=10))
    async with serving(access=access, is_connected=False) as gateway:
        for _ in range(3):
            assert (await post(gateway)).status_code == 503
        await gateway.connect()

        assert (await post(gateway)).status_code == 200


async def test_engine_s_refusal_gives_the_place_back() -> None:
    async with serving(access=keys(key(ALICE, max_concurrent=1))) as gateway:
        for _ in range(3):
            assert (await post(gateway, max_tokens=0)).status_code == 400


async def test_answer_of_a_gateway_before_this_one_takes_its_key_s_place() -> None:
    slow = speeds(tokens_per_s=50.0)
    access = keys(key(ALICE, max_concurrent=1, tokens_per_minute=60), key(BOB))
    clock = Clock()
    async with serving(slow, access=access) as old:
        body = saying(stream=True, max_tokens=100, headstart={"detach": True})
        asking = asyncio.ensure_future(old.stream(json=body, headers=auth(ALICE)))
        await eventually(lambda: len(old.streams.live) == 1)
        async with serving(access=access, now=clock, is_connected=False, streams=table()) as new:
            new.pool.update(old.table)
            await eventually(lambda: len(new.streams.live) == 1)

            full = await post(new)

            assert "max_concurrent" in full.json()["error"]["message"]
            assert (await post(new, BOB, max_tokens=1)).status_code == 200
            await soon(asking)
            await eventually(lambda: not new.streams.live)
            indebted = await post(new)
            assert "tokens_per_minute" in indebted.json()["error"]["message"]
            clock.now += 600
            assert (await post(new, max_tokens=1)).status_code == 200


async def test_who_would_be_refused_is_told_before_the_body_has_come() -> None:
    access = keys(key(ALICE, requests_per_minute=1))
    async with serving(access=access, now=Clock()) as gateway:
        assert (await post(gateway)).status_code == 200
        async with connected(gateway.address) as connection:
            connection.head("POST", CHAT, **auth(ALICE), **{"content-length": "1000000"})

            answer = await connection.until(b"RateLimitError")

            assert answer.startswith(b"HTTP/1.1 429 ")
