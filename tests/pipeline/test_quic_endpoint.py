"""What the gateway says of its UDP side leads there."""

import asyncio
from base64 import b64decode

import httpx
import pytest

from headstart.client.quic_connect import Trust, open_carrier
from headstart.client.quic_session import connect
from headstart.configs.serving import GatewaySettings, QuicSettings
from tests.support.carriers import Told
from tests.support.gateway import serving
from tests.support.sessions import session_with
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio


async def test_a_gateway_on_all_addresses_is_found_where_it_was_asked() -> None:
    settings = GatewaySettings(shutdown_grace_s=0)
    async with serving(settings=settings, quic=QuicSettings(host="0.0.0.0")) as gateway:
        offer = (await soon(gateway.client.get("/v1/transport"))).json()
        assert offer["host"] == httpx.URL(gateway.url).host == "127.0.0.1"
        assert offer["url"] == f"https://127.0.0.1:{offer['port']}/v1/streams/transport"
        hashes = {b64decode(one["value"]) for one in offer["certificate_hashes"]}
        session = await connect(offer["host"], offer["port"], Trust(frozenset(hashes)))
        session.close()

        for asked, name, in_url in (
            ("chat.example.org:8000", "chat.example.org", "chat.example.org"),
            ("[2001:db8::1]:8000", "2001:db8::1", "[2001:db8::1]"),
        ):
            answer = await soon(gateway.client.get("/v1/transport", headers={"host": asked}))
            assert answer.json()["host"] == name
            assert answer.json()["url"].startswith(f"https://{in_url}:{offer['port']}/")


async def test_an_address_of_its_own_is_what_it_is() -> None:
    async with serving(quic=QuicSettings(host="127.0.0.1")) as gateway:
        answer = await soon(gateway.client.get("/v1/transport", headers={"host": "elsewhere"}))
        assert answer.json()["host"] == "127.0.0.1"
        for malformed in ("[::", ""):
            assert gateway.quic is not None
            gateway.quic._settings = QuicSettings()
            assert (gateway.quic.describe(malformed) or {})["host"] == "127.0.0.1"


@pytest.mark.parametrize("is_webtransport", [False, True])
async def test_a_connection_on_which_nobody_asks_is_closed(is_webtransport: bool) -> None:
    async with serving(quic=QuicSettings()) as gateway, session_with(gateway) as session:
        assert gateway.quic is not None
        listener = gateway.quic._listener
        assert listener is not None
        health = await soon(session.ask("GET", "/healthz"))
        await soon(health.finished())

        told = Told()
        certificates = gateway.quic._certificates
        assert certificates is not None
        await open_carrier(
            "127.0.0.1",
            gateway.quic.port,
            lambda carrier, path: told,
            Trust(frozenset(certificates.hashes)),
            is_webtransport=is_webtransport,
        )
        assert listener.num_connections == 2
        now = asyncio.get_running_loop().time()
        gateway.quic.close_unused(now + 5)
        assert told.closed_for is None

        gateway.quic.close_unused(now + 11)

        await eventually(lambda: told.closed_for is not None)
        await eventually(lambda: listener.num_connections == 1)
        assert gateway.quic.num_sessions == 1
        again = await soon(session.ask("GET", "/healthz"))
        await soon(again.finished())
