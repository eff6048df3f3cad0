"""`models` gives what the `openai` package's gives."""

import asyncio
import re

import httpx
import pytest
from openai import AsyncOpenAI
from openai import NotFoundError as OpenAINotFound
from openai.pagination import AsyncPage, SyncPage
from openai.types import Model

from headstart.client import AsyncClient, Client
from headstart.stages.errors import BadRequest, ClientError, EngineUnavailable, NotFound
from tests.support.gateway import Gateway
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio


async def test_the_list_equals_openais(client: AsyncClient, openai: AsyncOpenAI) -> None:
    mine = await soon(client.models.list())
    theirs = await soon(openai.models.list())

    assert type(mine) is type(theirs) is AsyncPage[Model]
    assert mine.model_dump() == theirs.model_dump()
    assert [model.id for model in mine.data] == ["fake"]
    assert not mine.has_next_page()
    assert [page async for page in mine.iter_pages()] == [mine]


async def test_its_models_come_from_the_page_or_without_waiting_for_it(
    client: AsyncClient, openai: AsyncOpenAI
) -> None:
    mine = [model async for model in client.models.list()]
    theirs = [model async for model in openai.models.list()]

    assert mine == [model async for model in await soon(client.models.list())] == theirs
    assert {type(model) for model in mine} == {Model}


async def test_one_model_equals_openais(client: AsyncClient, openai: AsyncOpenAI) -> None:
    mine = await soon(client.models.retrieve("fake"))

    assert mine == await soon(openai.models.retrieve("fake"))
    assert type(mine) is Model


@pytest.mark.parametrize("name", ["none", "no/ne", "a b?c#d%2F", "../models"])
async def test_a_model_that_is_not_there_is_not_found(
    client: AsyncClient, openai: AsyncOpenAI, name: str
) -> None:
    with pytest.raises(NotFound, match=re.escape(f"`{name}` does not exist")):
        await soon(client.models.retrieve(name))
    with pytest.raises(OpenAINotFound):
        await soon(openai.models.retrieve(name))


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_what_would_ask_for_something_else_is_refused(
    client: AsyncClient, openai: AsyncOpenAI, name: str
) -> None:
    with pytest.raises(BadRequest, match="no model's name"):
        await soon(client.models.retrieve(name))
    with pytest.raises(ValueError, match=r"."):
        await soon(openai.models.retrieve(name))


async def test_further_headers_go_along() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401 if request.headers.get("x-more") != "1" else 404)

    async with (
        httpx.AsyncClient(base_url="http://gateway", transport=httpx.MockTransport(answer)) as http,
        AsyncClient(http=http, datagrams=False) as client,
    ):
        with pytest.raises(ClientError, match="HTTP 404"):
            await soon(client.models.list(extra_headers={"x-more": "1"}))
        with pytest.raises(ClientError, match="HTTP 404"):
            await soon(client.models.retrieve("fake", extra_headers={"x-more": "1"}))


async def test_a_gateway_that_is_not_there_is_an_error_of_ours() -> None:
    async with AsyncClient("http://127.0.0.1:1") as client:
        with pytest.raises(EngineUnavailable):
            await soon(client.models.list())


async def test_models_come_without_await(gateway: Gateway, openai: AsyncOpenAI) -> None:
    def work() -> tuple[SyncPage[Model], list[Model], Model]:
        with Client(gateway.url) as client:
            with pytest.raises(NotFound):
                client.models.retrieve("none")
            page = client.models.list()
            return page, list(page), client.models.retrieve("fake")

    page, listed, one = await soon(asyncio.to_thread(work))

    theirs = await soon(openai.models.list())
    assert type(page) is SyncPage[Model]
    assert page.model_dump() == theirs.model_dump()
    assert listed == theirs.data == [one]
