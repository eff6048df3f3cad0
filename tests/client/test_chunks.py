"""What comes out of the client is what comes out of OpenAI's."""

import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncClient
from headstart.stages.errors import BadRequest, EngineUnavailable, HeadstartError, NotFound
from tests.support.gateway import Gateway, saying, serving, speeds
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

VOLATILE = {"id", "created"}


async def test_chat_chunks_equal_openais(client: AsyncClient, openai: AsyncOpenAI) -> None:
    asked = saying(stream_options={"include_usage": True}, max_tokens=12)

    answer = await soon(client.chat.completions.create(**asked, stream=True))
    mine = [chunk async for chunk in answer]
    stream = await soon(openai.chat.completions.create(**asked, stream=True))
    theirs = [chunk async for chunk in stream]

    assert all(type(chunk) is ChatCompletionChunk for chunk in mine)
    assert len(mine) > 12
    assert [chunk.model_dump(exclude=VOLATILE) for chunk in mine] == [
        chunk.model_dump(exclude=VOLATILE) for chunk in theirs
    ]
    assert [chunk.model_fields_set for chunk in mine] == [c.model_fields_set for c in theirs]


async def test_completion_chunks_equal_openais(client: AsyncClient, openai: AsyncOpenAI) -> None:
    answer = await soon(client.completions.create(model="fake", prompt=["One", "two"], stream=True))
    mine = [chunk async for chunk in answer]
    stream = await soon(openai.completions.create(model="fake", prompt=["One", "two"], stream=True))
    theirs = [chunk async for chunk in stream]

    assert [chunk.model_dump(exclude=VOLATILE) for chunk in mine] == [
        chunk.model_dump(exclude=VOLATILE) for chunk in theirs
    ]


async def test_a_whole_answer_equals_openais(client: AsyncClient, openai: AsyncOpenAI) -> None:
    mine = await soon(client.chat.completions.create(**saying()))
    theirs = await soon(openai.chat.completions.create(**saying()))

    assert mine.model_dump(exclude=VOLATILE) == theirs.model_dump(exclude=VOLATILE)


async def test_what_openai_does_not_know_travels_in_the_extra_body(client: AsyncClient) -> None:
    answer = await soon(
        client.chat.completions.create(
            **saying(), stream=True, extra_body={"headstart": {"timing": True}}
        )
    )
    chunks = [chunk async for chunk in answer]

    assert chunks[-1].model_extra is not None
    assert "timing" in chunks[-1].model_extra["headstart"]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [({"model": "none"}, NotFound), ({"max_tokens": 0}, BadRequest), ({"messages": 1}, BadRequest)],
    ids=["model", "limit", "messages"],
)
@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_refusal_is_the_error_it_was(
    client: AsyncClient, fields: dict[str, object], kind: type[HeadstartError], is_stream: bool
) -> None:
    with pytest.raises(kind):
        await soon(client.chat.completions.create(**saying(stream=is_stream) | fields))


async def test_no_replica_is_an_error_that_may_pass() -> None:
    async with serving(speeds(), is_connected=False) as gateway, AsyncClient(gateway.url) as client:
        with pytest.raises(EngineUnavailable) as caught:
            await soon(client.completions.create(prompt="a", stream=True))

    assert caught.value.is_retryable


async def test_nobody_at_the_address_is_said_so() -> None:
    async with AsyncClient("http://127.0.0.1:9") as client:
        with pytest.raises(EngineUnavailable, match="cannot be reached"):
            await soon(client.completions.create(prompt="a", stream=True))


async def test_answers_outlive_their_connection(client: AsyncClient, gateway: Gateway) -> None:
    answer = await soon(client.completions.create(prompt="a", stream=True))

    assert answer.id == gateway.replica.requests[0].stream_id
    assert len([chunk async for chunk in answer]) > 1
    assert answer.cursor > 0
