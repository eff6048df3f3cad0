"""A client that hangs up: its plain answer is stopped at once, a detached one goes on."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest
from starlette.types import Message

from headstart.cluster.stream import Stream
from headstart.monitoring.labels import Outcome
from headstart.pipeline.log_response import LogResponse
from headstart.stages.frames import StreamHeader
from tests.support.events import events, text
from tests.support.gateway import CHAT, COMPLETIONS, Gateway, saying, serving, speeds
from tests.support.raw_http import Connection, connected
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

WITHIN_S = 0.5
"""What the design promises."""
ENDLESS = 100_000
SHORT = 40
DETACH_BY_HEADER = {"x_headstart_detach": "1"}
DETACH_BY_BODY = {"headstart": {"detach": True}}


@pytest.fixture
async def slow() -> AsyncIterator[Gateway]:
    """A gateway whose replica takes its time: 50 tokens a second."""
    async with serving(speeds(tokens_per_s=50.0)) as gateway:
        yield gateway


async def begun(gateway: Gateway, connection: Connection, *, is_streamed: bool) -> None:
    """Wait until an answer is being made, and its first token has been read if it can be."""
    if is_streamed:
        assert (await connection.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await connection.until(b'"content":" ')
    await eventually(lambda: gateway.replica.engine.load().running == 1)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_plain_answer_is_stopped(slow: Gateway, path: str, is_streamed: bool) -> None:
    body = saying() if path == CHAT else {"prompt": "Once upon a time"}
    async with connected(slow.address) as connection:
        connection.post(path, body | {"stream": is_streamed, "max_tokens": ENDLESS})
        if path == COMPLETIONS and is_streamed:
            await connection.until(b'"text":" ')
        await begun(slow, connection, is_streamed=is_streamed and path == CHAT)

        connection.hang_up()

        await slow.replica.idle(WITHIN_S)
    await slow.unused()
    assert slow.count(Outcome.CANCELLED) == 1


async def test_plain_answer_is_stopped_before_its_first_token() -> None:
    async with serving(speeds(time_to_first_token_s=60.0)) as gateway:
        async with connected(gateway.address) as connection:
            connection.post(CHAT, saying(stream=True))
            await eventually(lambda: gateway.replica.engine.load().running == 1)

            connection.hang_up()

            await gateway.replica.idle(WITHIN_S)
        await gateway.unused()


async def test_client_that_leaves_within_its_request_asked_for_nothing(slow: Gateway) -> None:
    async with connected(slow.address) as connection:
        connection.head("POST", CHAT, content_length="100")
        connection.write(b'{"model":')
        await eventually(lambda: slow.num_in_flight == 1)

        connection.hang_up()

        await slow.unused()
    assert slow.replica.requests == []


async def test_one_client_that_leaves_stops_nobody_else(slow: Gateway) -> None:
    async with connected(slow.address) as leaver, connected(slow.address) as stayer:
        leaver.post(CHAT, saying(stream=True, max_tokens=ENDLESS))
        await begun(slow, leaver, is_streamed=True)
        stayer.post(CHAT, saying(stream=True, max_tokens=SHORT))
        await stayer.until(b'"content":" ')

        leaver.hang_up()

        assert b"[DONE]" in await stayer.until(b"data: [DONE]\n\n")
    await slow.unused()
    assert slow.count(Outcome.COMPLETED) == slow.count(Outcome.CANCELLED) == 1


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(
    ("headers", "fields"), [(DETACH_BY_HEADER, {}), ({}, DETACH_BY_BODY)], ids=["header", "body"]
)
async def test_detached_answer_goes_on(
    slow: Gateway, headers: dict[str, str], fields: dict[str, object], is_streamed: bool
) -> None:
    body = saying(stream=is_streamed, max_tokens=SHORT) | fields
    async with connected(slow.address) as connection:
        connection.post(CHAT, body, **headers)
        await begun(slow, connection, is_streamed=is_streamed)
        stream = slow.live

        connection.hang_up()

        await soon(stream.finished())
    assert stream.end is not None
    assert (stream.end.is_aborted, stream.end.output_tokens) == (False, SHORT)
    kept = await soon(slow.client.get(f"/v1/streams/{stream.id}"))
    resumed = partial(slow.exposition().value, "headstart_resumes_total", carrier="sse")
    assert (resumed(outcome="resumed"), resumed(outcome="refused")) == (1, 0)
    if is_streamed:
        assert len(text(kept.content).split()) == SHORT
    else:
        assert kept.json()["usage"]["completion_tokens"] == SHORT
    await slow.unused()


@pytest.mark.parametrize("value", ["0", "false", ""])
async def test_header_that_says_no_asks_for_nothing(slow: Gateway, value: str) -> None:
    async with connected(slow.address) as connection:
        connection.post(CHAT, saying(stream=True, max_tokens=ENDLESS), x_headstart_detach=value)
        await begun(slow, connection, is_streamed=True)

        connection.hang_up()

        await slow.replica.idle(WITHIN_S)


async def test_reader_that_resumes_and_leaves_stops_nothing(slow: Gateway) -> None:
    async with connected(slow.address) as first, connected(slow.address) as second:
        first.post(CHAT, saying(stream=True, max_tokens=SHORT) | DETACH_BY_BODY)
        await begun(slow, first, is_streamed=True)
        stream = slow.live
        second.head("GET", f"/v1/streams/{stream.id}")
        await second.until(b'"content":" ')

        second.hang_up()

        assert b"[DONE]" in await first.until(b"data: [DONE]\n\n")


async def test_delete_stops_an_answer_and_its_readers_see_the_end(slow: Gateway) -> None:
    async with connected(slow.address) as connection:
        connection.post(CHAT, saying(stream=True, max_tokens=ENDLESS) | DETACH_BY_BODY)
        await begun(slow, connection, is_streamed=True)
        stream = slow.live

        answer = await soon(slow.client.delete(f"/v1/streams/{stream.id}"))

        assert answer.status_code == httpx.codes.NO_CONTENT
        await slow.replica.idle(WITHIN_S)
        assert b'"type":"CancelledError"' in await connection.until(b"data: [DONE]\n\n")
    await slow.unused()
    assert stream.end is not None
    assert stream.end.is_aborted
    assert slow.count(Outcome.CANCELLED) == 1
    kept = await soon(slow.client.get(f"/v1/streams/{stream.id}"))
    *_, said, error, end = events(kept.content)
    assert json.loads(said.data)["choices"]
    assert json.loads(error.data)["error"]["code"] == httpx.codes.CONFLICT
    assert end.data == "[DONE]"


async def test_delete_before_the_first_token() -> None:
    async with serving(speeds(time_to_first_token_s=60.0)) as gateway:
        async with connected(gateway.address) as connection:
            connection.post(CHAT, saying() | DETACH_BY_BODY)
            await eventually(lambda: gateway.replica.engine.load().running == 1)

            await soon(gateway.client.delete(f"/v1/streams/{gateway.live.id}"))

            head = await connection.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 409 ")
            assert b'"message":' in await connection.until(b"}}")
        await gateway.unused()
        assert gateway.count(Outcome.CANCELLED) == 1


async def test_delete_leaves_a_finished_answer_alone(gateway: Gateway) -> None:
    body = await gateway.stream(headers={"x-headstart-detach": "1"})
    path = f"/v1/streams/{gateway.replica.requests[0].stream_id}"

    answer = await soon(gateway.client.delete(path))

    assert answer.status_code == httpx.codes.NO_CONTENT
    assert (await soon(gateway.client.get(path))).content == body


@pytest.mark.parametrize("is_named", [False, True])
async def test_answer_that_goes_on_is_one_that_its_reader_can_name(is_named: bool) -> None:
    stream = Stream("a", 1 << 20)
    if is_named:
        stream.append(StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "tiny", 0))
    abandoned: list[Stream] = []
    sent: list[str] = []
    is_sent = asyncio.Event()

    async def abandon(stream: Stream) -> None:
        abandoned.append(stream)

    async def send(message: Message) -> None:
        sent.append(message["type"])
        is_sent.set()

    async def receive() -> Message:
        if is_named:
            await is_sent.wait()
        return {"type": "http.disconnect"}

    response = LogResponse(
        stream,
        after=0,
        heartbeat_s=60,
        has_ids=True,
        is_stream=True,
        abandon=abandon,
        is_detached=True,
    )
    await soon(response({"type": "http"}, receive, send))

    assert ("http.response.start" in sent) is is_named
    assert abandoned == ([] if is_named else [stream])
