"""The gateway as a process of its own serves QUIC beside HTTP, on the same port number."""

import asyncio
import socket
from base64 import b64decode
from collections.abc import AsyncIterator

import httpx
import pytest

from headstart.client.quic_connect import Trust
from headstart.client.quic_session import connect
from headstart.configs.settings import GatewaySettings, ModelSettings, QuicSettings, Settings
from headstart.pipeline.gateway_child import GatewayChild
from tests.support.waiting import PATIENCE_S, soon

pytestmark = pytest.mark.anyio


def settings(**quic: object) -> Settings:
    return Settings(
        models=(ModelSettings(name="fake", engine="fake"),),
        gateway=GatewaySettings(port=0, shutdown_grace_s=0),
        quic=QuicSettings.model_validate(quic),
    ).with_secret("a-secret-for-tests-only")


@pytest.fixture
async def http(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running gateway process without replicas."""
    quic = getattr(request, "param", {})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = GatewayChild(settings(**quic), listener)
        running = asyncio.ensure_future(child.keep_alive())
        url = "http://{}:{}".format(*listener.getsockname())
        try:
            async with httpx.AsyncClient(
                base_url=url, timeout=PATIENCE_S, trust_env=False, verify=False
            ) as client:
                await soon(client.get("/healthz"))
                yield client
        finally:
            running.cancel()
            await child.close()
            await asyncio.gather(running, return_exceptions=True)


async def test_it_says_where_and_answers_there(http: httpx.AsyncClient) -> None:
    offer = (await http.get("/v1/transport")).json()
    assert offer["version"] == 1
    assert offer["alpn"] == "headstart/1"
    assert offer["port"] == http.base_url.port
    assert offer["url"] == f"https://127.0.0.1:{offer['port']}/v1/streams/transport"
    certificate, following = offer["certificate_hashes"]
    assert certificate["algorithm"] == following["algorithm"] == "sha-256"

    trust = Trust(frozenset({b64decode(certificate["value"])}))
    for is_webtransport in (False, True):
        session = await connect("127.0.0.1", offer["port"], trust, is_webtransport=is_webtransport)
        health = await soon(session.ask("GET", "/healthz"))
        await soon(health.finished())
        assert health.body == b"ok\n"
        session.close()


@pytest.mark.parametrize("http", [{"enabled": False}], indirect=True)
async def test_without_quic_it_says_so(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/transport")

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "NotFoundError"


async def test_an_address_that_is_taken_leaves_http_as_it_is() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            child = GatewayChild(settings(port=taken.getsockname()[1]), listener)
            running = asyncio.ensure_future(child.keep_alive())
            url = "http://{}:{}".format(*listener.getsockname())
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False) as http:
                assert (await soon(http.get("/healthz"))).status_code == 200
                assert (await soon(http.get("/v1/transport"))).status_code == 404
            running.cancel()
            await child.close()
            await asyncio.gather(running, return_exceptions=True)
