"""The official clients, Python and Node, on what only the fake engine makes quick to try."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.gateway import Gateway, serving, speeds
from tests.support.node_client import ask_through_node
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

ASKED: dict[str, Any] = {"model": "fake", "input": "Hi!", "max_output_tokens": 5}


@asynccontextmanager
async def official_client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """The official Python client."""
    async with (
        openai.DefaultAsyncHttpxClient(trust_env=False) as http,
        AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", http_client=http) as client,
    ):
        yield client


@pytest.fixture
async def official(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with official_client(gateway) as client:
        yield client


async def exhausted(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


async def test_response(official: AsyncOpenAI) -> None:
    whole = await soon(official.responses.create(**ASKED))
    parts = [part async for part in await soon(official.responses.create(**ASKED, stream=True))]
    async with official.responses.stream(**ASKED) as assembled:
        final = await soon(assembled.get_final_response())

    said = "".join(part.delta for part in parts if part.type == "response.output_text.delta")
    assert len(said.split()) == 5
    assert said == whole.output_text == final.output_text
    assert [part.sequence_number for part in parts] == list(range(len(parts)))
    assert parts[-1].type == "response.completed"
    assert parts[-1].response.usage.output_tokens == 5


async def test_response_says_where_the_time_went(official: AsyncOpenAI) -> None:
    timed = {"headstart": {"timing": True}}

    stream = await soon(official.responses.create(**ASKED, stream=True, extra_body=timed))

    *_, last = [part async for part in stream]
    assert last.type == "response.completed"
    assert "prefill" in last.headstart["timing"]["stages_s"]


async def test_response_that_is_cut_short_raises() -> None:
    async with (
        serving(speeds(stage_delays_s={"decode": 60.0})) as gateway,
        official_client(gateway) as client,
    ):
        stream = await soon(client.responses.create(**ASKED, stream=True))
        events = aiter(stream)
        while (await soon(anext(events))).type != "response.output_text.delta":
            pass

        await gateway.replica.die()

        with pytest.raises(openai.APIError, match="lost"):
            await soon(exhausted(events))


async def test_models(official: AsyncOpenAI) -> None:
    assert [model.id async for model in official.models.list()] == ["fake"]
    assert (await soon(official.models.retrieve("fake"))).id == "fake"


async def test_what_is_missing_is_not_found(official: AsyncOpenAI) -> None:
    for asked in (
        official.models.retrieve("gpt-9"),
        official.responses.create(model="gpt-9", input="a"),
        official.responses.retrieve("resp_1"),
        official.embeddings.create(model="fake", input="a"),
        official.images.generate(prompt="a"),
    ):
        with pytest.raises(openai.NotFoundError):
            await soon(asked)


async def test_node_client(gateway: Gateway) -> None:
    found = await asyncio.to_thread(ask_through_node, gateway.url, "fake")

    assert (found["models"], found["model"]) == (["fake"], "fake")
    assert found["chat"] == found["streamedChat"] != ""
    assert found["completion"] != ""
    assert found["response"] == found["streamedResponse"] == found["assembledResponse"] != ""
    assert found["events"][-1] == "response.completed"
    assert found["embeddings"] == found["unknownModel"] == ["NotFoundError", 404]
    assert found["refused"] == ["BadRequestError", 400]
