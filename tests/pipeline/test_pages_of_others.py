"""Without API keys, pages in browsers on the same machine get nothing that is not theirs."""

from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from headstart.configs.access import AccessSettings
from headstart.configs.serving import GatewaySettings
from headstart.monitoring.labels import Refusal
from tests.pipeline.test_access import ALICE, auth, key
from tests.support.gateway import CHAT, Gateway, saying, serving
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

EVIL = "https://evil.example"
PAGE = "https://chat.example.org"


async def ask(gateway: Gateway, method: str, path: str, /, **headers: str) -> httpx.Response:
    body: dict[str, Any] = {"json": saying(max_tokens=1)} if path == CHAT else {}
    return await soon(gateway.client.request(method, path, headers=headers, **body))


def check_refused(answer: httpx.Response, hint: str) -> None:
    assert answer.status_code == httpx.codes.FORBIDDEN
    error = answer.json()["error"]
    assert error["type"] == "PermissionDeniedError"
    assert error["code"] in (403, "forbidden")  # the word is live prompts'
    assert hint in error["message"]


@pytest.mark.parametrize("path", ["/", "/v1/models", "/metrics", "/web/headstart.js", CHAT])
async def test_name_that_has_come_to_mean_this_machine_is_refused(
    gateway: Gateway, path: str
) -> None:
    method = "POST" if path == CHAT else "GET"

    check_refused(await ask(gateway, method, path, host="evil.example:8000"), "allowed_hosts")

    assert gateway.replica.requests == []
    assert gateway.exposition().value("headstart_refusals_total", reason=Refusal.FORBIDDEN) == 1
    for host in ("localhost:1", "127.0.0.1", "[::1]:8000"):
        assert (await ask(gateway, method, path, host=host)).is_success


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost:3000", ""])
async def test_page_of_another_origin_changes_nothing(gateway: Gateway, origin: str) -> None:
    simple = {"content-type": "text/plain", "origin": origin}  # which browsers just send
    for method, path in (
        ("POST", CHAT),
        ("POST", "/v1/live"),
        ("PATCH", "/v1/live/x"),
        ("DELETE", "/v1/streams/x"),
    ):
        check_refused(await ask(gateway, method, path, **simple), "cors_origins")

    assert gateway.replica.requests == []
    assert len(gateway.live_prompts) == 0


async def test_gateway_s_own_page_and_programs_are_answered(gateway: Gateway) -> None:
    for headers in ({}, {"origin": gateway.url}):
        assert (await ask(gateway, "POST", CHAT, **headers)).is_success


async def test_pages_and_names_of_the_settings_are_answered() -> None:
    settings = GatewaySettings(
        cors_origins=(PAGE, "chrome-extension://abc"), allowed_hosts=("llm.example.org",)
    )
    async with serving(settings=settings) as gateway:
        for origin in (PAGE, "chrome-extension://abc", "http://llm.example.org"):
            answer = await ask(gateway, "POST", CHAT, origin=origin, host="llm.example.org")
            assert answer.is_success
        check_refused(await ask(gateway, "POST", CHAT, origin=EVIL), EVIL)
        check_refused(await ask(gateway, "POST", CHAT, origin=PAGE, host="evil.example"), "evil")


async def test_where_a_key_is_needed_it_decides() -> None:
    """No browser adds one by itself."""
    async with serving(access=AccessSettings(keys=(key(ALICE),))) as gateway:
        headers = auth(ALICE) | {"origin": EVIL, "host": "llm.example.org"}

        assert (await ask(gateway, "POST", CHAT, **headers)).is_success


@pytest.mark.parametrize(
    ("name", "origin"), [("localhost", EVIL), ("evil.example", "http://evil.example:8000")]
)
async def test_web_socket_is_refused_alike(gateway: Gateway, name: str, origin: str) -> None:
    host, port = gateway.address
    url = f"ws://{name}:8000/v1/realtime"

    with pytest.raises(InvalidStatus) as refused:
        await soon(connect(url, proxy=None, origin=Origin(origin), host=host, port=port))
    assert refused.value.response.status_code == 403
