"""An answer is stopped by whichever way works, whatever is wrong with the others."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from headstart.client import AsyncClient
from headstart.client.stopping import ask_to_stop
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

HEAD = {"x-headstart-stream": "a", "content-type": "text/event-stream"}


async def faulty(stream: str) -> None:
    raise RuntimeError("a fault of ours")


async def test_a_fault_in_one_way_does_not_cancel_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopped: list[str] = []

    async def slow(stream: str) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        stopped.append(stream)

    assert await soon(ask_to_stop([faulty, slow], "a")) is None
    assert stopped == ["a"]
    assert "a fault of ours" in caplog.text


async def test_a_fault_is_told_of_where_no_other_way_was_open() -> None:
    assert await soon(ask_to_stop([faulty], "a")) == "a fault of ours"


class Endless(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""


async def begins(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers=HEAD, stream=Endless())


async def test_what_goes_wrong_with_one_answer_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = AsyncClient("http://gateway.test", datagrams=False)
    await client._http.aclose()
    client._http = httpx.AsyncClient(
        base_url="http://gateway.test", transport=httpx.MockTransport(begins)
    )
    answers = [
        await soon(client.chat.completions.create(model="a", messages=[], stream=True))
        for _ in range(2)
    ]
    close = answers[1].close

    async def broken() -> None:
        await close()
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(answers[1], "close", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await soon(client.close())

    assert client._http.is_closed
    assert not client._answers
