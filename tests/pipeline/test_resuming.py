"""An answer can be read again, from any of its cursors, by any number of readers."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.events import Event, events, text
from tests.support.gateway import CHAT, COMPLETIONS, Gateway, saying, serving, speeds, table
from tests.support.raw_http import connected
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

DETACHED = {"x-headstart-detach": "1"}
BODIES = {
    "chat": (CHAT, saying(stream=True, stream_options={"include_usage": True})),
    "completion": (COMPLETIONS, {"prompt": ["one", "two"], "stream": True}),
}


@pytest.fixture
async def slow() -> AsyncIterator[Gateway]:
    """A gateway whose replica takes a second for an answer."""
    async with serving(speeds(tokens_per_s=40.0, answer_tokens=40)) as gateway:
        yield gateway


def path_of(gateway: Gateway) -> str:
    """Where the answer to the first request can be read."""
    return f"/v1/streams/{gateway.replica.requests[0].stream_id}"


def cursor(event: Event) -> int:
    assert event.id is not None
    return int(event.id)


@pytest.mark.parametrize("kind", BODIES)
async def test_every_cursor_gives_exactly_the_rest(gateway: Gateway, kind: str) -> None:
    path, asked = BODIES[kind]
    body = await gateway.stream(path, json=asked, headers=DETACHED)
    stored = path_of(gateway)

    found = events(body)
    cursors = [cursor(event) for event in found]
    assert cursors == sorted(set(cursors))
    assert found[-1].data == "[DONE]"
    assert (await soon(gateway.client.get(stored))).content == body
    for event in found:
        by_query = await soon(gateway.client.get(stored, params={"after": event.id}))
        headers = {"last-event-id": str(event.id)}
        by_header = await soon(gateway.client.get(stored, headers=headers))
        assert by_query.content == by_header.content == body[event.stop :]
        # Browsers come back for more unless told that there is none.
        code = httpx.codes.OK if event is not found[-1] else httpx.codes.NO_CONTENT
        assert (by_query.status_code, by_header.status_code) == (code, code)


async def test_query_wins_over_the_header_that_browsers_send(gateway: Gateway) -> None:
    body = await gateway.stream(headers=DETACHED)
    first, second, *_ = events(body)

    answer = await soon(
        gateway.client.get(
            path_of(gateway),
            params={"after": second.id},
            headers={"last-event-id": str(first.id)},
        )
    )

    assert answer.content == body[second.stop :]


async def test_every_cursor_works_while_the_answer_is_made(slow: Gateway) -> None:
    async with connected(slow.address) as first:
        first.post(CHAT, saying(stream=True), x_headstart_detach="1")
        await first.until(b'"content":" ')
        first.hang_up()
    stream = slow.live
    readers = []
    while stream.end is None:
        after = stream.log.end
        request = slow.client.get(path_of(slow), params={"after": after})
        readers.append((after, asyncio.ensure_future(request)))
        await soon(stream.grown(after))

    whole = await soon(slow.client.get(path_of(slow)))
    rests = {cursor(event): whole.content[event.stop :] for event in events(whole.content)}
    assert len(readers) > 20
    for after, reader in readers:
        assert (await soon(reader)).content == rests[after]


async def test_readers_at_once_get_identical_bytes(slow: Gateway) -> None:
    asking = asyncio.ensure_future(slow.stream(headers=DETACHED))
    await eventually(lambda: len(slow.streams.live) == 1)
    path = f"/v1/streams/{slow.live.id}"

    readers = [slow.client.get(path), slow.client.get(path)]
    others = await soon(asyncio.gather(*readers))

    body = await soon(asking)
    assert [other.content for other in others] == [body, body]
    assert len(text(body).split()) == 40


async def test_plain_answer_can_be_read_again_too(gateway: Gateway) -> None:
    body = await gateway.stream()

    again = await soon(gateway.client.get(path_of(gateway)))

    assert [event.data for event in events(again.content)] == [event.data for event in events(body)]


async def test_polls_add_up_to_the_answer(slow: Gateway) -> None:
    asking = asyncio.ensure_future(slow.stream(headers=DETACHED))
    await eventually(lambda: len(slow.streams.live) == 1)
    path, body, after = f"/v1/streams/{slow.live.id}", b"", "0"

    num_polls = 0
    while True:
        params = {"after": after, "wait": "10"}
        poll = await soon(slow.client.get(path, params=params))
        if poll.status_code == httpx.codes.NO_CONTENT:
            break
        num_polls += 1
        body += poll.content
        after = events(poll.content)[-1].id or after

    assert num_polls > 10
    assert body == await soon(asking)


async def test_a_poll_waits_no_longer_than_it_was_told(gateway: Gateway) -> None:
    body = await gateway.stream(headers=DETACHED)
    first, *_ = events(body)
    async with serving(speeds(time_to_first_token_s=60.0)) as mute:
        asking = asyncio.ensure_future(mute.stream(headers=DETACHED))
        await eventually(lambda: len(mute.streams.live) == 1)
        path = f"/v1/streams/{mute.live.id}"

        poll = await soon(mute.client.get(path, params={"wait": "0"}))

        assert (poll.status_code, poll.content) == (httpx.codes.OK, b"")
        await soon(mute.client.delete(path))
        await soon(asking)
        told = await soon(mute.client.get(path, params={"wait": "0"}))
        assert b"CancelledError" in told.content
    poll = await soon(gateway.client.get(path_of(gateway), params={"after": first.id, "wait": "0"}))
    assert poll.content == body[first.stop :]


@pytest.mark.parametrize("wait", ["-1", "1.5", "100", "soon"])
async def test_a_wait_that_is_none_is_refused(gateway: Gateway, wait: str) -> None:
    await gateway.stream(headers=DETACHED)

    answer = await soon(gateway.client.get(path_of(gateway), params={"wait": wait}))

    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert answer.json()["error"]["param"] == "wait"


async def test_whole_answer_can_be_read_again(gateway: Gateway) -> None:
    whole = await soon(gateway.client.post(CHAT, json=saying()))

    again = await soon(gateway.client.get(path_of(gateway)))

    assert again.content == whole.content
    assert again.headers["content-type"] == "application/json"


async def test_refusal_by_the_engine_can_be_read_again(gateway: Gateway) -> None:
    refused = await soon(gateway.client.post(CHAT, json=saying(max_tokens=0)))

    again = await soon(gateway.client.get(path_of(gateway)))

    assert (again.status_code, again.content) == (httpx.codes.BAD_REQUEST, refused.content)


async def test_what_is_no_cursor_is_refused(gateway: Gateway) -> None:
    found = events(await gateway.stream(headers=DETACHED))
    log = gateway.streams.get(gateway.replica.requests[0].stream_id).log
    cursors = {log.header_end, *map(cursor, found)}
    inside = [str(number) for number in range(1, log.end) if number not in cursors]

    past = [str(log.end + 1), str(1 << 64), "9" * 5000]
    for after in [*inside[:: len(inside) // 20], *past, "-1", "1.5", "first", "0x1", "²"]:
        answer = await soon(gateway.client.get(path_of(gateway), params={"after": after}))
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (httpx.codes.BAD_REQUEST, "after"), after
        assert error["type"] == "BadRequestError"


async def test_expired_answer_is_gone() -> None:
    clock = 1000.0
    async with serving(streams=table(ttl_s=60, now=lambda: clock)) as gateway:
        await gateway.stream(headers=DETACHED)
        path = path_of(gateway)
        clock += 59
        assert (await soon(gateway.client.get(path))).status_code == httpx.codes.OK

        clock += 1

        for way, where in (("GET", path), ("GET", f"{path}/timing"), ("DELETE", path)):
            answer = await soon(gateway.client.request(way, where))
            assert answer.status_code == httpx.codes.NOT_FOUND
            assert "expired" in answer.json()["error"]["message"]
        assert gateway.streams.log_bytes == 0


@pytest.mark.parametrize("is_poll", [False, True])
async def test_last_cursor_of_a_cancelled_answer_gives_the_error(
    slow: Gateway, is_poll: bool
) -> None:
    asking = asyncio.ensure_future(slow.stream(headers=DETACHED))
    await eventually(lambda: len(slow.streams.live) == 1)
    stream = slow.live
    await soon(stream.grown(stream.log.end))
    await soon(slow.client.delete(f"/v1/streams/{stream.id}"))
    body = await soon(asking)
    params = {"after": str(stream.log.end)} | ({"wait": "1"} if is_poll else {})

    rest = await soon(slow.client.get(f"/v1/streams/{stream.id}", params=params))

    assert rest.status_code == httpx.codes.OK
    assert b"cancelled" in rest.content
    assert body.endswith(rest.content)
