"""Keys at the door, as OpenAI's own client meets them: who gets in, to what, and how often."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import openai
import pytest
from openai import AsyncOpenAI

from headstart.cluster.stream import StreamTable
from headstart.configs.access import AccessSettings, KeySettings
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import Refusal
from headstart.stages.access import hash_of
from headstart.stages.errors import NotFound, Unauthenticated
from headstart.stages.retention import Retention
from tests.support.events import text
from tests.support.gateway import CHAT, COMPLETIONS, Gateway, saying, serving, speeds
from tests.support.raw_http import connected
from tests.support.sessions import session_with
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

KIB = 1024
ALICE, BOB = "hs-alice", "hs-bob"
MESSAGES: Any = [{"role": "user", "content": "Name three colours."}]


def key(clear: str, **scope: Any) -> KeySettings:
    """The entry of a key that is called like its owner."""
    return KeySettings(id=clear.removeprefix("hs-"), hash=hash_of(clear), **scope)


def keys(*entries: KeySettings, **more: Any) -> AccessSettings:
    return AccessSettings(keys=entries, **more)


def auth(clear: str) -> dict[str, str]:
    return {"authorization": f"Bearer {clear}"}


def client(gateway: Gateway, clear: str, max_retries: int = 0) -> AsyncOpenAI:
    """OpenAI's client with a key, to be closed."""
    return AsyncOpenAI(
        base_url=f"{gateway.url}/v1",
        api_key=clear,
        max_retries=max_retries,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )


async def ask(gateway: Gateway, clear: str, model: str = "fake") -> str:
    async with client(gateway, clear) as asking:
        answer = await soon(asking.chat.completions.create(model=model, messages=MESSAGES))
    return answer.choices[0].message.content or ""


def refused(gateway: Gateway, reason: Refusal) -> float:
    return gateway.exposition().value("headstart_refusals_total", reason=reason)


@pytest.fixture
async def two() -> AsyncIterator[Gateway]:
    """A gateway of two models and two keys, one of which is for one model only."""
    access = keys(key(ALICE), key(BOB, models=("small",)))
    async with serving(speeds("fake"), speeds("small"), access=access) as gateway:
        yield gateway


async def test_key_opens(two: Gateway) -> None:
    assert await ask(two, ALICE)
    assert refused(two, Refusal.UNAUTHENTICATED) == 0


@pytest.mark.parametrize(
    "header", [None, "Bearer hs-mallory", "Bearer", "Basic aHMtYWxpY2U=", "hs-alice", "Bearer é"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CHAT),
        ("POST", COMPLETIONS),
        ("GET", "/v1/models"),
        ("GET", "/v1/streams/any"),
        ("GET", "/v1/streams/any/timing"),
        ("DELETE", "/v1/streams/any"),
        ("GET", "/nowhere"),
    ],
)
async def test_nothing_opens_without_a_key(
    two: Gateway, header: str | None, method: str, path: str
) -> None:
    headers = {} if header is None else {b"authorization": header.encode("latin-1")}

    answer = await soon(two.client.request(method, path, headers=headers))

    assert answer.status_code == httpx.codes.UNAUTHORIZED
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("AuthenticationError", None, 401)
    assert "API key" in error["message"]
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-should-retry"] == "false"
    assert refused(two, Refusal.UNAUTHENTICATED) == 1
    assert not any(replica.requests for replica in two.replicas)


async def test_wrong_key_is_refused_before_the_body_has_come(two: Gateway) -> None:
    async with connected(two.address) as connection:
        connection.head("POST", CHAT, content_length="1000", authorization="Bearer hs-mallory")

        assert (await connection.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")


async def test_openai_client_calls_a_wrong_key_by_its_name(two: Gateway) -> None:
    with pytest.raises(openai.AuthenticationError):
        await ask(two, "hs-mallory")


async def test_model_out_of_scope_is_forbidden(two: Gateway) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="may not use the model `fake`"):
        await ask(two, BOB)

    assert await ask(two, BOB, "small")
    assert refused(two, Refusal.FORBIDDEN) == 1


async def test_key_sees_only_its_models(two: Gateway) -> None:
    for clear, models in ((ALICE, ["fake", "small"]), (BOB, ["small"])):
        async with client(two, clear) as asking:
            listed = await soon(asking.models.list())
        assert [model.id for model in listed.data] == models

    with pytest.raises(openai.NotFoundError, match=r"Valid aliases: small\.") as unknown:
        await ask(two, BOB, "gpt-9")
    assert "fake" not in str(unknown.value)


async def test_request_without_a_model_goes_to_the_first_that_the_key_may_use(
    two: Gateway,
) -> None:
    body = {"prompt": "a", "max_tokens": 1}

    answer = await soon(two.client.post(COMPLETIONS, json=body, headers=auth(BOB)))

    assert answer.json()["model"] == "small"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_probes_need_no_key(two: Gateway, path: str) -> None:
    assert (await soon(two.client.get(path))).is_success


async def test_metrics_may_ask_for_a_key() -> None:
    async with serving(access=keys(key(ALICE), metrics_need_key=True)) as gateway:
        assert (await soon(gateway.client.get("/metrics"))).status_code == 401
        assert (await soon(gateway.client.get("/metrics", headers=auth(ALICE)))).is_success
        assert (await soon(gateway.client.get("/healthz"))).is_success


async def test_without_keys_any_key_will_do(gateway: Gateway) -> None:
    assert await ask(gateway, "unused")


async def test_stream_belongs_to_the_key_that_made_it(two: Gateway) -> None:
    made = await soon(
        two.client.post(CHAT, json=saying(stream=True, max_tokens=3), headers=auth(ALICE))
    )
    path = f"/v1/streams/{made.headers['x-headstart-stream']}"

    gone = (await soon(two.client.get("/v1/streams/never-was", headers=auth(ALICE)))).json()
    for method, of in (("GET", path), ("GET", f"{path}/timing"), ("DELETE", path)):
        other = await soon(two.client.request(method, of, headers=auth(BOB)))
        assert other.status_code == httpx.codes.NOT_FOUND
        stream_id = made.headers["x-headstart-stream"]
        assert other.text.replace(stream_id, "never-was") == json.dumps(gone, separators=(",", ":"))
        own = await soon(two.client.request(method, of, headers=auth(ALICE)))
        assert own.is_success

    read = await soon(two.client.get(path, headers=auth(ALICE)))
    assert text(read.content) == text(made.content)


async def test_stream_id_cannot_be_made_one_s_own(two: Gateway) -> None:
    made = await soon(two.client.post(CHAT, json=saying(max_tokens=3), headers=auth(ALICE)))
    stream, _, tag = made.headers["x-headstart-stream"].partition(".")

    for stream_id in (stream, f"{stream}.", f"{stream}.{tag[::-1]}", f".{tag}"):
        for clear in (ALICE, BOB):
            answer = await soon(two.client.get(f"/v1/streams/{stream_id}", headers=auth(clear)))
            assert answer.status_code == httpx.codes.NOT_FOUND


async def salt_of(gateway: Gateway, clear: str, **fields: Any) -> Any:
    """What reaches the engine as cache salt."""
    gateway.replica.requests.clear()
    answer = await soon(
        gateway.client.post(CHAT, json=saying(max_tokens=1, **fields), headers=auth(clear))
    )
    assert answer.is_success, answer.text
    return json.loads(gateway.replica.requests[0].body).get("cache_salt")


async def test_each_key_has_a_prefix_cache_of_its_own() -> None:
    async with serving(access=keys(key(ALICE), key(BOB))) as gateway:
        alice = await salt_of(gateway, ALICE)
        salts = [
            alice,
            await salt_of(gateway, BOB),
            await salt_of(gateway, ALICE, cache_salt="mine"),
            await salt_of(gateway, BOB, cache_salt="mine"),
            await salt_of(gateway, BOB, cache_salt=alice),
        ]
        assert len(set(salts)) == 5
    async with serving(access=keys(key(BOB), key(ALICE))) as restarted:
        assert await salt_of(restarted, ALICE, cache_salt=None) == alice


async def test_without_keys_the_cache_salt_is_the_client_s(gateway: Gateway) -> None:
    assert await salt_of(gateway, "unused") is None
    assert await salt_of(gateway, "unused", cache_salt="mine") == "mine"


@pytest.mark.parametrize("salt", [5, "", ["x"]])
async def test_salt_that_is_none_is_refused(salt: Any) -> None:
    async with serving(access=keys(key(ALICE))) as gateway:
        answer = await soon(
            gateway.client.post(CHAT, json=saying(cache_salt=salt), headers=auth(ALICE))
        )

        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert answer.json()["error"]["param"] == "cache_salt"
        assert gateway.replica.requests == []


async def test_one_key_cannot_take_the_room_for_moving_answers() -> None:
    streams = StreamTable(Retention(300.0, 1 << 28), 1 << 26, time.monotonic, 8 * KIB)
    body = saying("x" * KIB, stream=True, max_tokens=1000, headstart={"detach": True})
    access = keys(key(ALICE), key(BOB))
    async with (
        serving(speeds(tokens_per_s=1.0), access=access, streams=streams) as two,
        asyncio.TaskGroup() as asking,
    ):

        async def ask_eight_times(clear: str) -> None:
            known = len(streams.live)
            for _ in range(8):
                asking.create_task(two.client.post(CHAT, headers=auth(clear), json=body))
            await eventually(lambda: len(streams.live) == known + 8)

        await ask_eight_times(ALICE)
        await ask_eight_times(BOB)

        movable = Counter(one.request.key_id for one in streams.live if one.request is not None)
        assert 0 < movable["alice"] <= 4
        assert 0 < movable["bob"] <= 2
        for stream in streams.live:
            await two.pool.continuity.abort(stream)


async def test_answers_over_quic_are_their_keys_alone() -> None:
    slow = speeds(tokens_per_s=100.0, answer_tokens=60)
    access = keys(key(ALICE), key(BOB))
    async with serving(slow, quic=QuicSettings(), access=access) as gateway:
        gateway.client.headers.update(auth(BOB))
        async with session_with(gateway) as alices, session_with(gateway) as bobs:
            body = msgspec.json.encode(
                {"model": "fake", "messages": MESSAGES, "stream": True, "max_tokens": 60}
            )
            reading = await soon(alices.ask("POST", CHAT, [*auth(ALICE).items()], body))
            stream_id = reading.stream_id
            assert stream_id is not None

            for headers in ([], [*auth(BOB).items()]):
                stolen = await soon(bobs.resume(stream_id, headers))
                await soon(stolen.finished())
                assert stolen.answer is not None
                assert stolen.answer.status == (404 if headers else 401)
                assert stolen.log == b""
                with pytest.raises(NotFound if headers else Unauthenticated):
                    await soon(bobs.stop(stream_id, headers))

            await soon(reading.finished())
            assert reading.is_whole
