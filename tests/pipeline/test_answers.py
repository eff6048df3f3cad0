"""What a client gets when all goes well."""

from collections.abc import AsyncIterator

import httpx
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from headstart.configs.serving import GatewaySettings
from tests.support.events import chunks, events, text
from tests.support.gateway import CHAT, COMPLETIONS, Gateway, saying, serving, speeds
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

NUM_TOKENS = 12


@pytest.fixture
async def openai(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """The official client."""
    async with (
        DefaultAsyncHttpxClient(trust_env=False) as http,
        AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", http_client=http) as client,
    ):
        yield client


async def test_models_are_listed(openai: AsyncOpenAI) -> None:
    models = await soon(openai.models.list())

    assert [(model.id, model.object) for model in models.data] == [("fake", "model")]


async def test_chat_is_the_same_streamed_and_not(openai: AsyncOpenAI) -> None:
    asked = saying(max_tokens=NUM_TOKENS)

    whole = await soon(openai.chat.completions.create(**asked))
    stream = await soon(
        openai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    parts = [part async for part in stream]

    assert parts[0].choices[0].delta.role == "assistant"
    said = [part.choices[0].delta.content or "" for part in parts if part.choices]
    assert "".join(said) == whole.choices[0].message.content
    assert len(said) == 1 + NUM_TOKENS
    assert parts[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == NUM_TOKENS
    assert parts[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"


async def test_completion_is_the_same_streamed_and_not(openai: AsyncOpenAI) -> None:
    prompts, limit = ["Hello, my", "The sky"], NUM_TOKENS

    whole = await soon(openai.completions.create(model="fake", prompt=prompts, max_tokens=limit))
    stream = await soon(
        openai.completions.create(model="fake", prompt=prompts, max_tokens=limit, stream=True)
    )
    said = ["", ""]
    async for part in stream:
        for choice in part.choices:
            said[choice.index] += choice.text

    assert said == [choice.text for choice in whole.choices]
    assert said[0] != said[1]


async def test_events_name_the_stream_and_forbid_buffering(gateway: Gateway) -> None:
    answer = await soon(gateway.client.post(CHAT, json=saying(stream=True)))

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-headstart-stream"] == gateway.replica.requests[0].stream_id
    assert "server" not in answer.headers


async def test_plain_events_carry_no_ids(gateway: Gateway) -> None:
    assert {event.id for event in events(await gateway.stream())} == {None}


async def test_whole_answer_names_its_length(gateway: Gateway) -> None:
    answer = await soon(gateway.client.post(CHAT, json=saying()))

    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["x-headstart-stream"] == gateway.replica.requests[0].stream_id


async def test_every_stream_has_an_id_of_its_own(gateway: Gateway) -> None:
    for _ in range(3):
        await gateway.stream()

    ids = {request.stream_id for request in gateway.replica.requests}
    assert len(ids) == 3
    assert min(map(len, ids)) >= 16


async def test_body_reaches_the_engine_byte_for_byte(gateway: Gateway) -> None:
    body = b'{ "prompt" :"caf\\u00e9", "max_tokens":2 ,"some_future_field": [1e2, null] }'

    await soon(gateway.client.post(COMPLETIONS, content=body))

    (request,) = gateway.replica.requests
    assert (request.method, request.path, request.body) == ("POST", COMPLETIONS, body)


async def test_only_headers_that_an_engine_may_act_on_reach_it(gateway: Gateway) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"Authorization": "Bearer secret", "Traceparent": trace, "X-Vllm-Priority": "-9"}

    await soon(gateway.client.post(COMPLETIONS, json={"prompt": "a"}, headers=headers))

    (request,) = gateway.replica.requests
    assert request.headers == (("content-type", "application/json"), ("traceparent", trace))


async def test_first_model_answers_who_names_none() -> None:
    async with serving(speeds("one"), speeds("two", seed=1)) as gateway:
        bodies = [await gateway.stream(json=saying(stream=True) | {"model": "one"})]
        nameless = {key: value for key, value in saying(stream=True).items() if key != "model"}
        bodies.append(await gateway.stream(json=nameless))

    one, first = map(text, bodies)
    assert one == first


async def test_each_model_is_asked_for_its_own_answers() -> None:
    async with serving(speeds("one"), speeds("two", seed=1)) as gateway:
        models = (await soon(gateway.client.get("/v1/models"))).json()
        answers = [
            chunks(await gateway.stream(json=saying(stream=True) | {"model": name}))
            for name in ("two", "one")
        ]

    assert (models["object"], [model["id"] for model in models["data"]]) == ("list", ["one", "two"])
    assert [{chunk["model"] for chunk in answer} for answer in answers] == [{"two"}, {"one"}]


async def test_requests_go_round_the_replicas_of_a_model() -> None:
    async with serving(speeds(), speeds()) as gateway:
        for _ in range(4):
            await gateway.stream()

    assert [len(replica.requests) for replica in gateway.replicas] == [2, 2]


async def test_silence_is_filled_with_comments() -> None:
    slow = speeds(answer_tokens=2, stage_delays_s={"decode": 0.3})
    async with serving(slow, settings=GatewaySettings(heartbeat_s=0.05)) as gateway:
        body = await gateway.stream()

    assert 3 <= body.count(b": keep-alive\n\n") <= 6
    assert len(text(body).split()) == 2


async def test_process_lives_and_is_ready(gateway: Gateway) -> None:
    for route, word in (("/healthz", "ok"), ("/readyz", "ready")):
        answer = await soon(gateway.client.get(route))
        assert (answer.status_code, answer.text) == (httpx.codes.OK, f"{word}\n")
