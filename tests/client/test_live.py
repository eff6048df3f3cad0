"""Prompts that are sent as they are typed, by our own client over plain HTTP."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncAnswer, AsyncClient, AsyncLivePrompt, Client
from headstart.client.live_state import Reasoning
from headstart.stages.carrier_ladder import LadderLimits
from headstart.stages.errors import LiveConflict, LiveRefused, NotFound
from tests.pipeline.thinking import FIRST, begun, slow
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


class Lossy(httpx.AsyncHTTPTransport):
    """Has every other request of a live prompt taken, and its response lost."""

    def __init__(self) -> None:
        super().__init__()
        self.num_asked = self.num_lost = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        path = request.url.path
        if path.startswith("/v1/live/"):
            self.num_asked += 1
            if self.num_asked % 2:
                self.num_lost += 1
                await response.aread()
                await response.aclose()
                raise httpx.ReadError("lost", request=request)
        return response


async def test_responses_that_are_lost(gateway: Gateway, client: AsyncClient) -> None:
    lossy = Lossy()
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=None, transport=lossy) as http,
        AsyncClient(http=http, datagrams=False, limits=LadderLimits(min_retry_s=0.0)) as losing,
        await soon(losing.live(max_tokens=8)) as prompt,
    ):
        for text in ("Name three colours.", "And then?"):
            for letter in text:
                await soon(prompt.append(letter))
            assert prompt.text == text
            async with await soon(prompt.commit()) as answer:
                chunks = [chunk async for chunk in answer]
            assert "".join(c.choices[0].delta.content or "" for c in chunks)
        state = await soon(prompt.state())
        assert state.num_chars == 0
    assert lossy.num_lost > len("Name three colours.And then?")
    assert len(gateway.live_prompts) == 0
    asked = [json.loads(one.body)["messages"] for one in gateway.replica.requests]
    first, second = [one for one in asked if one[-1]["content"] in ("Name three colours.", text)]
    assert second[:1] == first
    assert len(second) == 3


async def test_what_was_computed_ahead_and_how_it_ended(client: AsyncClient) -> None:
    async with await soon(client.live(max_tokens=8)) as prompt:
        assert await soon(prompt.computed_ahead()) is None
        await soon(prompt.append(TEXT))
        async with asyncio.timeout(PATIENCE_S):
            while (await prompt.computed()).warm_tokens < 96:  # noqa: ASYNC110 - it is asked
                await asyncio.sleep(0.001)
        async with await soon(prompt.commit()) as answer:
            assert [chunk async for chunk in answer]
        state = await soon(prompt.state())
        assert state.response is not None
        assert (state.response.id, state.response.status) == (answer.id, "completed")
        ahead = await soon(prompt.computed_ahead())
        assert ahead == state.computed_ahead
        assert ahead is not None
        assert ahead.tokens >= 96
        assert state.timing


async def test_settings_are_changed(gateway: Gateway, client: AsyncClient) -> None:
    async with await soon(client.live(instructions="Be long.", temperature=0.5)) as prompt:
        await soon(prompt.update(instructions="Be brief.", max_tokens=3))
        with pytest.raises(NotFound):
            await soon(prompt.update(model="none"))
        await soon(prompt.append("Name three colours."))
        async with await soon(prompt.commit()) as answer:
            assert [chunk async for chunk in answer]
    body = json.loads(gateway.replica.requests[-1].body)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["max_tokens"] == 3
    assert "temperature" not in body


async def test_an_answer_is_cancelled() -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(serving(speeds(answer_tokens=2000)))
        client = await stack.enter_async_context(AsyncClient(gateway.url))
        prompt = await stack.enter_async_context(await soon(client.live()))
        with pytest.raises(LiveConflict) as refused:
            await soon(prompt.cancel())
        assert refused.value.code == "no_response"
        await soon(prompt.append("Count."))
        answer = await stack.enter_async_context(await soon(prompt.commit()))
        await soon(anext(answer))
        await soon(prompt.cancel())
        state = await soon(prompt.state())
        assert state.response is not None
        assert state.response.status == "cancelled"
        await soon(prompt.append("Again."))
        assert prompt.text == "Again."


async def test_what_is_thought() -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(serving(slow()))
        client = await stack.enter_async_context(AsyncClient(gateway.url))
        livemind = {"show_thoughts": True, "at_commit": "wait"}
        prompt = await stack.enter_async_context(await soon(client.live(livemind=livemind)))
        assert await soon(prompt.reasoning()) == Reasoning(0, [])
        await soon(prompt.append(FIRST + "It"))
        await begun(gateway)
        commit = asyncio.ensure_future(prompt.commit())
        (kept,) = gateway.live_prompts._kept.values()
        await eventually(lambda: kept.session._is_committing)
        await soon(prompt.cancel())
        with pytest.raises(LiveConflict) as refused:
            await soon(commit)
        assert refused.value.code == "commit_cancelled"
        assert prompt.text == FIRST + "It"
        await soon(prompt.update(livemind=None))
        state = await soon(prompt.state())
        assert (state.mode, state.reasoning) == ("lossless", None)


async def test_without_await(gateway: Gateway) -> None:
    def work() -> tuple[str, int]:
        with Client(gateway.url) as client, client.live(temperature=0) as prompt:
            prompt.append("Name three ")
            prompt.append("colors.")
            prompt.replace(15, 15, "u")
            computed = prompt.computed()
            prompt.update(instructions="Be brief.")
            assert prompt.text == "Name three colours."
            chunks = list(prompt.commit())
            assert prompt.computed_ahead() == prompt.state().computed_ahead is not None
            assert prompt.reasoning() is None
            with pytest.raises(LiveConflict):
                prompt.cancel()
            return "".join(c.choices[0].delta.content or "" for c in chunks), computed.version

    answer, version = await soon(asyncio.to_thread(work))

    assert answer
    assert version <= 3
