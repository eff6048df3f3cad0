"""What keeps one client, or many, from taking all there is: places, memory, the event loop."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from headstart.configs.serving import GatewaySettings
from headstart.monitoring.labels import Outcome
from headstart.stages.errors import NotFound
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.mirror import StreamEnd
from tests.support.events import text
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds, table
from tests.support.raw_http import connected
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

KIB = 1024
ENDLESS = 100_000
LONG = 100_000
"""Tokens whose events fill every buffer between gateway and reader many times."""


@pytest.fixture
async def fast() -> AsyncIterator[Gateway]:
    """A gateway whose replica makes tokens as fast as it can, 64 a step."""
    unthrottled = speeds(tokens_per_s=0.0, tokens_per_step=64, answer_tokens=LONG)
    async with serving(unthrottled) as gateway:
        yield gateway


async def refused(gateway: Gateway) -> str:
    """Be refused because the gateway is full, and return its words."""
    answer = await soon(gateway.client.post(CHAT, json=saying(stream=True)))
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.headers["retry-after"] == "1"
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("ServiceUnavailableError", 503)
    return str(error["message"])


async def test_no_more_answers_at_once_than_there_are_places() -> None:
    two = GatewaySettings(max_streams=2)
    async with (
        serving(speeds(tokens_per_s=50.0), settings=two) as gateway,
        connected(gateway.address) as leaver,
        connected(gateway.address) as other,
    ):
        for connection in (leaver, other):
            connection.post(CHAT, saying(stream=True, max_tokens=ENDLESS))
            await connection.until(b'"content":" ')

        assert "all 2 places" in await refused(gateway)
        leaver.hang_up()
        await eventually(lambda: len(gateway.streams.live) == 1)

        assert text(await gateway.stream())
        assert gateway.count(Outcome.ENGINE_ERROR) == 1


async def test_no_new_answer_while_the_old_ones_fill_the_memory() -> None:
    small = table(max_bytes=64 * KIB)
    model = speeds(tokens_per_s=0.0, tokens_per_step=64)
    async with serving(model, streams=small) as gateway, connected(gateway.address) as connection:
        connection.post(CHAT, saying(stream=True, max_tokens=ENDLESS))
        await eventually(lambda: small.log_bytes > 64 * KIB)

        assert "memory" in await refused(gateway)
        connection.hang_up()
        await gateway.unused()

        assert text(await gateway.stream())
        assert small.log_bytes < 64 * KIB


async def test_old_answers_make_room_for_the_one_being_made() -> None:
    small = table(max_bytes=64 * KIB)
    model = speeds(tokens_per_s=0.0, tokens_per_step=64, answer_tokens=1000)
    async with serving(model, streams=small) as gateway:
        for number in range(8):
            await gateway.stream(json=saying(f"Number {number}.", stream=True))
            assert small.log_bytes <= 64 * KIB

        ids = [request.stream_id for request in gateway.replica.requests]
        kept = [stream_id for stream_id in ids if stream_id in small]
        assert kept == ids[-len(kept) :]
        assert 1 < len(kept) < 8
        async with connected(gateway.address) as connection:
            connection.post(CHAT, saying(stream=True, max_tokens=ENDLESS))
            await eventually(lambda: small.is_full)
            small.expire()
            assert [stream_id for stream_id in ids if stream_id in small] == []


async def test_finished_answers_expire_by_time() -> None:
    clock = 0.0
    streams = table(ttl_s=300, now=lambda: clock)
    async with serving(streams=streams) as gateway:
        for _ in range(3):
            await gateway.stream()
            clock += 100.0
        old, middle, new = (request.stream_id for request in gateway.replica.requests)

        clock = 399.0
        streams.expire()
        assert (old in streams, middle in streams, new in streams) == (False, True, True)
        clock = 500.0
        with pytest.raises(NotFound):
            streams.get(new)
        assert (len(streams), streams.log_bytes) == (0, 0)


async def test_bodies_that_arrive_are_bounded_together() -> None:
    settings = GatewaySettings(max_body_bytes=512 * KIB, max_bodies_bytes=KIB * KIB)
    piece = b'"' + b" " * 500 * KIB
    async with (
        serving(settings=settings) as gateway,
        connected(gateway.address) as one,
        connected(gateway.address) as two,
        connected(gateway.address) as three,
    ):
        room = gateway.bodies
        for slow in (one, two):
            slow.head("POST", CHAT, content_length=f"{512 * KIB}")
            slow.write(piece)
        await eventually(lambda: room.free_bytes < 100 * KIB)
        three.head("POST", CHAT, content_length=f"{512 * KIB}")
        three.write(piece)

        assert b" 503 " in await three.until(b"\r\n")
        one.hang_up()
        await eventually(lambda: room.free_bytes > 500 * KIB)
        assert text(await gateway.stream())
        two.hang_up()
        await eventually(lambda: room.free_bytes == KIB * KIB)


async def test_answer_that_outgrows_its_log_ends_with_an_error() -> None:
    unthrottled = speeds(tokens_per_s=0.0, tokens_per_step=64)
    async with serving(unthrottled, log_bytes=64 * KIB) as gateway:
        body = await gateway.stream(json=saying(stream=True, max_tokens=ENDLESS))

        error, end = (event for event in body.decode().split("\n\n")[-3:-1])
        told = json.loads(error.removeprefix("data: "))["error"]
        assert "outgrew its log" in told["message"]
        assert (told["type"], told["code"]) == ("PayloadTooLargeError", 413)
        assert end == "data: [DONE]"
        await gateway.unused()
        assert gateway.replica.engine.load().running == 0
        assert gateway.count(Outcome.CLIENT_ERROR) == 1
        assert text(await gateway.stream())


async def test_body_that_outgrows_its_log_is_the_clients_fault() -> None:
    unthrottled = speeds(tokens_per_s=0.0, tokens_per_step=64)
    async with serving(unthrottled, log_bytes=64 * KIB) as gateway:
        answer = await gateway.client.post(CHAT, json=saying(max_tokens=ENDLESS))

        assert answer.status_code == 413
        assert "outgrew its log" in answer.json()["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"
        assert text(await gateway.stream())


async def test_mirror_that_is_smaller_than_its_log_costs_one_answer() -> None:
    unthrottled = speeds(tokens_per_s=0.0, tokens_per_step=64)
    async with serving(unthrottled, streams=table(max_stream_bytes=64 * KIB)) as gateway:
        body = await gateway.stream(json=saying(stream=True, max_tokens=ENDLESS))

        assert b"PayloadTooLargeError" in body
        await gateway.replica.idle(5)
        assert gateway.pool.up("fake")
        assert text(await gateway.stream())


async def test_reader_that_does_not_read_holds_up_nobody(fast: Gateway) -> None:
    async with connected(fast.address, receive_buffer=32 * KIB) as sleeper:
        sleeper.post(CHAT, saying("Sleep.", stream=True))
        await eventually(lambda: not fast.streams.live and fast.num_in_flight == 1)

        body = await fast.stream()

        assert len(text(body).split()) == LONG
        await eventually(lambda: fast.num_in_flight == 1)
        late = await sleeper.all_until(b"data: [DONE]\n\n")
    assert late.count(b"data: ") == body.count(b"data: ")


async def test_reader_that_does_not_read_is_not_waited_for_for_ever() -> None:
    unthrottled = speeds(tokens_per_s=0.0, tokens_per_step=64)
    impatient = GatewaySettings(send_timeout_s=0.1, shutdown_grace_s=0)
    async with serving(unthrottled, settings=impatient) as gateway:
        async with connected(gateway.address, receive_buffer=32 * KIB) as sleeper:
            sleeper.post(CHAT, saying("Sleep.", stream=True, max_tokens=ENDLESS))

            await eventually(lambda: gateway.count(Outcome.CANCELLED) == 1)

            exposition = gateway.exposition()
            assert exposition.value("headstart_refusals_total", reason="too_slow") == 1
            assert exposition.value("headstart_connections") == 0
            await gateway.unused()
        assert text(await gateway.stream())


@pytest.mark.alone
async def test_long_answer_read_again_does_not_stall_the_others(gateway: Gateway) -> None:
    stream = gateway.streams.create("long")
    stream.append(StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "fake", 1))
    for _ in range(LONG):
        stream.append(Frame(0, Channel.CONTENT, " word", (1,), 0))
    stream.finish(StreamEnd())
    pauses = [0.0]

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0)
            pauses.append(time.monotonic() - began)

    ticking = asyncio.ensure_future(tick())
    async with connected(gateway.address) as reader:
        reader.head("GET", "/v1/streams/long")
        body = await reader.all_until(b"\r\n0\r\n\r\n")
    ticking.cancel()
    assert body.count(b'" word"') == LONG
    assert max(pauses) < 0.1
