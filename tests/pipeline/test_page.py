"""The page at `/` over HTTP: what is served, to whom, and what it may do there."""

import gzip
import json
from pathlib import Path

import httpx
import pytest

from headstart.configs.access import AccessSettings
from headstart.configs.serving import GatewaySettings, QuicSettings
from tests.pipeline.test_access import ALICE, key
from tests.support.gateway import Gateway, serving
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

WEB = Path(__file__).parents[2] / "client" / "web"
SERVED = {
    file.relative_to(WEB).as_posix(): file
    for file in WEB.rglob("*")
    if file.is_file() and file.name not in ("index.html", "package.json")
}
"""The one is `/`, the other is for npm."""


async def get(gateway: Gateway, path: str, **headers: str) -> httpx.Response:
    return await soon(gateway.client.get(path, headers=headers))


def policy_of(answer: httpx.Response) -> dict[str, str]:
    parts = answer.headers["content-security-policy"].split("; ")
    return dict(part.split(" ", 1) for part in parts)


async def test_page_and_module_need_no_key() -> None:
    async with serving(access=AccessSettings(keys=(key(ALICE),))) as gateway:
        page = await get(gateway, "/")
        assert page.status_code == httpx.codes.OK
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        for path, file in SERVED.items():
            answer = await get(gateway, f"/web/{path}")
            assert answer.status_code == httpx.codes.OK
            assert answer.content == file.read_bytes()
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await get(gateway, "/v1/models")).status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.parametrize(
    "path",
    [
        *("/web/", "/web/page/", "/web/package.json", "/web/page/index.html"),
        *("/web/../webtransport.py", "/web/%2e%2e/answer.py"),
    ],
)
async def test_nothing_else_of_the_folder_is_served(gateway: Gateway, path: str) -> None:
    answer = await get(gateway, path)
    assert answer.status_code == httpx.codes.NOT_FOUND


def test_page_asks_for_every_module_at_once() -> None:
    """Else each level of imports would take another round trip."""
    page = (WEB / "page" / "index.html").read_text(encoding="utf-8")
    asked = {path for path in SERVED if f'="web/{path}"' in page}
    assert set(SERVED) - asked == {
        "headstart.d.ts",
        "live.js",
    }  # the one has no use, the other waits


async def test_page_may_run_and_load_only_what_comes_with_it(gateway: Gateway) -> None:
    page = await get(gateway, "/")
    policy = policy_of(page)
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == "'self'"  # there is no QUIC here
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    for inline in ("<style", "style=", "onclick", "<script>", "http://", "https://"):
        assert inline not in page.text


async def test_page_may_open_sessions_where_the_gateway_has_them() -> None:
    settings = GatewaySettings(shutdown_grace_s=0, allowed_hosts=("llm.example.org",))
    async with serving(settings=settings, quic=QuicSettings()) as gateway:
        assert gateway.quic is not None
        session = f"https://127.0.0.1:{gateway.quic.port}"
        assert policy_of(await get(gateway, "/"))["connect-src"] == f"'self' {session}"

        named = policy_of(await get(gateway, "/", host="llm.example.org:8000"))["connect-src"]
        assert f"https://llm.example.org:{gateway.quic.port}" in named


@pytest.mark.parametrize("host", ["a; script-src *", "a *", "'unsafe-inline'", "[::1]:8000", "*"])
async def test_a_host_header_adds_nothing_else_to_the_policy(host: str) -> None:
    async with serving(quic=QuicSettings()) as gateway:
        answer = await get(gateway, "/", host=host)
        assert gateway.quic is not None
        if answer.status_code == httpx.codes.OK:
            own = f"'self' https://127.0.0.1:{gateway.quic.port}"
            assert policy_of(answer)["connect-src"] in (own, "'self'")
            assert policy_of(answer)["script-src"] == "'self'"


async def test_what_a_browser_has_is_not_sent_again(gateway: Gateway) -> None:
    first = await get(gateway, "/web/headstart.js")
    assert first.headers["cache-control"] == "no-cache"
    again = await get(gateway, "/web/headstart.js", **{"if-none-match": first.headers["etag"]})
    assert again.status_code == httpx.codes.NOT_MODIFIED
    assert again.content == b""
    other = await get(gateway, "/web/headstart.js", **{"if-none-match": 'W/"another"'})
    assert other.status_code == httpx.codes.OK


async def test_files_are_packed_for_who_unpacks_them(gateway: Gateway) -> None:
    packed = await get(gateway, "/web/answer.js", **{"accept-encoding": "gzip, br"})
    plain = await get(gateway, "/web/answer.js", **{"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content == (WEB / "answer.js").read_bytes()
    assert int(packed.headers["content-length"]) == len(gzip.compress(plain.content, mtime=0))


async def test_page_can_be_left_out() -> None:
    async with serving(settings=GatewaySettings(page=False, shutdown_grace_s=0)) as gateway:
        for path in ("/", "/web/headstart.js"):
            answer = await get(gateway, path)
            assert answer.status_code == httpx.codes.NOT_FOUND
            assert json.loads(answer.content)["error"]["code"] == httpx.codes.NOT_FOUND
