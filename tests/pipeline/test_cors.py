"""Pages of other origins: which may call the API, and what of an answer they may read."""

from collections.abc import AsyncIterator

import httpx
import pytest

from headstart.configs.access import AccessSettings
from headstart.configs.serving import GatewaySettings
from tests.pipeline.test_access import ALICE, auth, key
from tests.support.gateway import CHAT, Gateway, saying, serving
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

PAGE = "https://chat.example.org"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


@pytest.fixture
async def guarded() -> AsyncIterator[Gateway]:
    """A gateway with a key, which pages of one origin may call."""
    settings = GatewaySettings(cors_origins=(PAGE,))
    async with serving(settings=settings, access=AccessSettings(keys=(key(ALICE),))) as gateway:
        yield gateway


async def preflight(gateway: Gateway, origin: str) -> httpx.Response:
    return await soon(gateway.client.options(CHAT, headers={"origin": origin, **PREFLIGHT}))


async def test_page_is_told_that_it_may_ask_before_it_shows_a_key(guarded: Gateway) -> None:
    answer = await preflight(guarded, PAGE)

    assert answer.status_code == httpx.codes.OK
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers


async def test_page_reads_the_answer_and_the_stream_s_id(guarded: Gateway) -> None:
    headers = auth(ALICE) | {"origin": PAGE}

    answer = await soon(guarded.client.post(CHAT, json=saying(stream=True), headers=headers))

    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "x-headstart-stream" in answer.headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize("clear", [None, "hs-mallory"])
async def test_page_reads_the_refusal_of_its_key(guarded: Gateway, clear: str | None) -> None:
    headers = {"origin": PAGE} | (auth(clear) if clear else {})

    answer = await soon(guarded.client.post(CHAT, json=saying(), headers=headers))

    assert answer.status_code == httpx.codes.UNAUTHORIZED
    assert answer.headers["access-control-allow-origin"] == PAGE


async def test_other_pages_may_not(guarded: Gateway) -> None:
    answer = await preflight(guarded, "https://evil.example.org")

    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert "access-control-allow-origin" not in answer.headers


async def test_by_default_no_page_may(gateway: Gateway) -> None:
    assert "access-control-allow-origin" not in (await preflight(gateway, PAGE)).headers
    answer = await soon(gateway.client.get("/v1/models", headers={"origin": PAGE}))
    assert "access-control-allow-origin" not in answer.headers
