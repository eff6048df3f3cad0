"""What a client is told when it asks for the impossible: always OpenAI's error object."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from headstart.configs.serving import GatewaySettings
from tests.support.gateway import CHAT, COMPLETIONS, Gateway, saying, serving
from tests.support.raw_http import connected
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

LIMITS = GatewaySettings(max_body_bytes=2048, body_timeout_s=0.1)


@pytest.fixture
async def strict() -> AsyncIterator[Gateway]:
    """A gateway with little patience."""
    async with serving(settings=LIMITS) as gateway:
        yield gateway


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error object of an answer, whose code is that of the answer."""
    assert answer.headers["content-type"] == "application/json"
    tree = answer.json()
    assert set(tree) == {"error"}
    error: dict[str, Any] = tree["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == answer.status_code
    assert error["message"]
    return error


async def test_unknown_model_is_refused_in_the_words_of_vllm(gateway: Gateway) -> None:
    answer = await soon(gateway.client.post(CHAT, json=saying() | {"model": "gpt-9"}))

    assert answer.status_code == httpx.codes.NOT_FOUND
    assert error_of(answer) == {
        "message": "The model `gpt-9` does not exist. Valid aliases: fake.",
        "type": "NotFoundError",
        "param": "model",
        "code": 404,
    }
    assert gateway.replica.requests == []


FORWARDED = {
    "malformed JSON": (b'{"model": "fake", ', 400, "Bad Request"),
    "no JSON at all": (b"Hello!", 400, "Bad Request"),
    "not UTF-8": (b'{"model": "\xff"}', 400, "Bad Request"),
    "nothing": (b"", 400, "Bad Request"),
    "no messages": (b'{"model": "fake"}', 400, "Bad Request"),
    "a list": (b"[]", 400, "Bad Request"),
    "a number": (b" 7", 400, "Bad Request"),
    "a model that is no name": (b'{"model": 7}', 400, "Bad Request"),
    "a stream that is no yes or no": (b'{"stream": "maybe"}', 400, "Bad Request"),
    "impossible limit": (json.dumps(saying(max_tokens=0)).encode(), 400, "BadRequestError"),
    **{
        f"{name} of {value}": (json.dumps(saying() | {name: value}).encode(), 400, kind)
        for name, value, kind in (
            ("temperature", float("nan"), "BadRequestError"),
            ("temperature", float("inf"), "BadRequestError"),
            ("temperature", 2.1, "BadRequestError"),
            ("temperature", "hot", "Bad Request"),
            ("top_p", 0, "BadRequestError"),
            ("top_k", -2, "BadRequestError"),
            ("min_p", 1.1, "BadRequestError"),
            ("presence_penalty", -2.1, "BadRequestError"),
            ("repetition_penalty", float("inf"), "BadRequestError"),
            ("min_tokens", -1, "BadRequestError"),
            ("seed", 2**63, "Bad Request"),
            ("stop", [""], "BadRequestError"),
        )
    },
}


@pytest.mark.parametrize("case", FORWARDED)
async def test_engine_words_what_it_alone_understands(gateway: Gateway, case: str) -> None:
    body, status, kind = FORWARDED[case]

    answer = await soon(gateway.client.post(CHAT, content=body))

    assert (answer.status_code, error_of(answer)["type"]) == (status, kind)
    assert [request.body for request in gateway.replica.requests] == [body]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json+x"])
async def test_other_content_types_are_refused_as_vllm_does(
    gateway: Gateway, content_type: str
) -> None:
    headers = {"content-type": content_type}
    body = json.dumps(saying()).encode()

    answer = await soon(gateway.client.post(CHAT, content=body, headers=headers))

    assert (answer.status_code, error_of(answer)["type"]) == (400, "Bad Request")
    assert "Unsupported Media Type" in error_of(answer)["message"]


OURS: dict[str, tuple[bytes, str]] = {
    "unknown option": (b'{"headstart": {"speed": 11}}', "speed"),
    "option of the wrong type": (b'{"headstart": {"detach": "yes"}}', "$.headstart.detach"),
    "options that are no object": (b'{"headstart": true}', "$.headstart"),
    "nested without end": (b'{"messages": ' + b"[" * 200_000, "nested"),
}


@pytest.mark.parametrize("case", OURS)
async def test_gateway_forwards_nothing_that_it_refuses(gateway: Gateway, case: str) -> None:
    body, hint = OURS[case]

    answer = await soon(gateway.client.post(CHAT, content=body))

    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert error_of(answer)["type"] == "BadRequestError"
    assert hint in error_of(answer)["message"]
    assert gateway.replica.requests == []


async def test_body_over_the_limit_is_refused_by_its_length_alone(strict: Gateway) -> None:
    async with connected(strict.address) as connection:
        connection.head("POST", CHAT, content_length="2049")

        head = await connection.until(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"2048 bytes" in await connection.until(b"}}")
    assert strict.replica.requests == []


async def test_body_over_the_limit_is_refused_as_it_comes(strict: Gateway) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b" " * 256

    answer = await soon(strict.client.post(CHAT, content=pieces()))

    assert answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
    assert error_of(answer)["type"] == "PayloadTooLargeError"
    assert strict.replica.requests == []


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_body_at_the_limit_is_served(strict: Gateway, is_chunked: bool) -> None:
    body = json.dumps({"prompt": "a", "max_tokens": 1}).encode().ljust(2048)

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:1000]
        yield body[1000:]

    content = pieces() if is_chunked else body
    answer = await soon(strict.client.post(COMPLETIONS, content=content))

    assert answer.status_code == httpx.codes.OK


async def test_body_that_does_not_come_is_not_waited_for(strict: Gateway) -> None:
    async with connected(strict.address) as connection:
        connection.head("POST", COMPLETIONS, content_length="100")
        connection.write(b'{"prompt":')

        head = await connection.until(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nconnection: close\r\n" in head
        assert b"the body took longer than 0.1 s" in await connection.rest()
    assert strict.replica.requests == []


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/v1/chat/completion", 404, "Not Found"),
        ("POST", "/v1/chat/completions/render", 404, "Not Found"),
        ("POST", "/scale_elastic_ep", 404, "Not Found"),
        ("GET", "/v1/streams/never-was", 404, "NotFoundError"),
        ("GET", "/v1/streams/never-was/timing", 404, "NotFoundError"),
        ("DELETE", "/v1/streams/never-was", 404, "NotFoundError"),
        ("GET", CHAT, 405, "Method Not Allowed"),
        ("POST", "/v1/models", 405, "Method Not Allowed"),
        ("PUT", "/v1/streams/never-was", 405, "Method Not Allowed"),
    ],
)
async def test_no_such_route(
    gateway: Gateway, method: str, path: str, status: int, kind: str
) -> None:
    answer = await soon(gateway.client.request(method, path))

    assert (answer.status_code, error_of(answer)["type"]) == (status, kind)
    assert gateway.replica.requests == []


async def test_refusals_leave_the_gateway_as_it_was(strict: Gateway) -> None:
    for body in (b"[]", b" " * 4096, b'{"headstart": {"speed": 11}}'):
        assert (await soon(strict.client.post(CHAT, content=body))).is_client_error

    assert await strict.stream()
    await strict.unused()
