"""Prompts that are sent as they are typed, by our own client over plain HTTP."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncAnswer, AsyncClient, AsyncLivePrompt, Client
from headstart.stages.errors import LiveConflict, LiveRefused, NotFound
from tests.support.gateway import Gateway, saying, serving, speeds
from tests.support.waiting import PATIENCE_S, eventually, soon

pytestmark = pytest.mark.anyio

TEXT = " ".join(f"word{number}" for number in range(100)) + " "


async def said(client: AsyncClient, text: str) -> str | None:
    whole = await soon(client.chat.completions.create(**saying(text)))
    said: str | None = whole.choices[0].message.content
    return said


async def test_typed_corrected_and_committed(gateway: Gateway, client: AsyncClient) -> None:
    async with await soon(client.live(model="fake", max_tokens=8)) as prompt:
        await soon(prompt.append(TEXT))
        await soon(prompt.replace(0, 5, "first"))
        async with asyncio.timeout(PATIENCE_S):
            while (await prompt.computed()).warm_tokens < 96:  # noqa: ASYNC110 - it is asked
                await asyncio.sleep(0.001)
        async with await soon(prompt.commit()) as answer:
            chunks = [chunk async for chunk in answer]

        assert "".join(c.choices[0].delta.content or "" for c in chunks) == await said(
            client, "first" + TEXT[5:]
        )
        assert answer.id in {stream.id for stream in gateway.streams._streams.values()}
        with pytest.raises(LiveRefused) as nothing:
            await soon(prompt.commit())
        assert nothing.value.code == "nothing_to_commit"
        await soon(prompt.append("And then?"))
        async with await soon(prompt.commit()) as answer:
            assert [chunk async for chunk in answer]
    assert len(gateway.live_prompts) == 0


async def test_edits_that_are_made_meanwhile_go_together(
    gateway: Gateway, client: AsyncClient
) -> None:
    async with await soon(client.live()) as prompt:
        await soon(asyncio.gather(*(prompt.append(letter) for letter in "Name three colours.")))

        (kept,) = gateway.live_prompts._kept.values()
        assert kept.session.text == "Name three colours."
        assert prompt.version == len("Name three colours.")


async def test_an_edit_is_confirmed_by_the_request_that_took_it() -> None:
    asked: list[dict[str, Any]] = []
    answered = asyncio.Semaphore(0)
    computed = {"version": 0, "prompt_tokens": 0, "stable_tokens": 0, "warm_tokens": 0}
    state = httpx.Response(
        200, json={"id": "a", "version": 0, "num_chars": 0, "computed": computed}
    )

    async def ask(method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        asked.append(body)
        await answered.acquire()
        return state

    def read(response: httpx.Response) -> AsyncAnswer[ChatCompletionChunk]:
        raise AssertionError

    prompt = AsyncLivePrompt(ask, read, state)
    first = [asyncio.ensure_future(prompt.append(letter)) for letter in "abc"]
    await eventually(lambda: len(asked) == 1)
    answered.release()
    await eventually(lambda: len(asked) == 2)
    later = asyncio.ensure_future(prompt.append("d"))
    answered.release()

    await soon(asyncio.gather(*first))  # and nobody has said anything of the last letter yet
    assert not later.done()
    answered.release()
    await soon(later)
    assert [edit["text"] for body in asked for edit in body["edits"]] == ["a", "b", "c", "d"]


async def test_what_is_refused(client: AsyncClient) -> None:
    with pytest.raises(NotFound):
        await soon(client.live(model="none"))
    async with await soon(client.live()) as prompt:
        await soon(prompt.append("some text"))
        with pytest.raises(LiveRefused) as refused:
            await soon(prompt.replace(5, 99, ""))
        assert (refused.value.code, refused.value.param) == ("out_of_range", "start")
        await soon(prompt.clear())
        assert prompt.version == 2
    with pytest.raises(NotFound):
        await soon(prompt.append("too late"))


async def test_no_edits_while_it_is_answered() -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(serving(speeds(answer_tokens=1000)))
        client = await stack.enter_async_context(AsyncClient(gateway.url))
        prompt = await stack.enter_async_context(await soon(client.live()))
        await soon(prompt.append("Count."))
        answer = await stack.enter_async_context(await soon(prompt.commit()))
        await soon(anext(answer))
        with pytest.raises(LiveConflict) as refused:
            await soon(prompt.append("more"))
        assert refused.value.code == "response_in_progress"


async def test_without_await(gateway: Gateway) -> None:
    def work() -> tuple[str, int]:
        with Client(gateway.url) as client, client.live(temperature=0) as prompt:
            prompt.append("Name three ")
            prompt.append("colors.")
            prompt.replace(15, 15, "u")
            computed = prompt.computed()
            chunks = list(prompt.commit())
            return "".join(c.choices[0].delta.content or "" for c in chunks), computed.version

    answer, version = await soon(asyncio.to_thread(work))

    assert answer
    assert version <= 3
