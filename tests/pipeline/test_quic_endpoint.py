"""What the gateway says of its UDP side leads there."""

import asyncio
from base64 import b64decode

import httpx
import pytest
from cryptography import x509
from pydantic import ValidationError

from headstart.client.quic_carrier import QuicCarrier
from headstart.client.quic_connect import Trust, open_carrier
from headstart.client.quic_session import connect
from headstart.client.webtransport import WebTransportServer
from headstart.configs.serving import GatewaySettings, QuicSettings
from tests.support.carriers import Told, pair
from tests.support.gateway import serving, speeds
from tests.support.sessions import asking, session_with
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio


async def test_a_gateway_on_all_addresses_is_found_where_it_was_asked() -> None:
    settings = GatewaySettings(
        shutdown_grace_s=0, allowed_hosts=("chat.example.org", "2001:db8::1")
    )
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
    settings = GatewaySettings(shutdown_grace_s=0, allowed_hosts=("elsewhere",))
    async with serving(settings=settings, quic=QuicSettings(host="127.0.0.1")) as gateway:
        answer = await soon(gateway.client.get("/v1/transport", headers={"host": "elsewhere"}))
        assert answer.json()["host"] == "127.0.0.1"
        for malformed in ("[::", ""):
            assert gateway.quic is not None
            gateway.quic._settings = QuicSettings()
            assert (gateway.quic.describe(malformed) or {})["host"] == "127.0.0.1"


async def test_a_public_host_is_announced_whatever_was_asked() -> None:
    settings = QuicSettings(host="127.0.0.1", public_host="quic.example.org")
    async with serving(quic=settings) as gateway:
        offer = (await soon(gateway.client.get("/v1/transport"))).json()
        assert offer["host"] == "quic.example.org"
        assert offer["is_public"]
        assert offer["url"].startswith(f"https://quic.example.org:{offer['port']}/")
        assert gateway.quic is not None
        certificate = gateway.quic._configuration.certificate
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "quic.example.org" in names.get_values_for_type(x509.DNSName)

        gateway.quic._settings = QuicSettings(public_host="2001:db8::1")
        assert (gateway.quic.describe("elsewhere") or {})["url"].startswith(
            "https://[2001:db8::1]:"
        )


async def test_a_public_port_is_announced_and_another_listened_on() -> None:
    async with (
        serving(quic=QuicSettings(public_port=4433)) as gateway,
        session_with(gateway, gateway.quic.port) as session,  # type: ignore[union-attr]
    ):
        assert gateway.quic is not None
        assert gateway.quic.port != 4433
        offer = (await soon(gateway.client.get("/v1/transport"))).json()
        assert offer["port"] == 4433
        assert offer["url"] == "https://127.0.0.1:4433/v1/streams/transport"
        policy = (await soon(gateway.client.get("/"))).headers["content-security-policy"]
        assert "connect-src 'self' https://127.0.0.1:4433;" in policy
        health = await soon(session.ask("GET", "/healthz"))
        await soon(health.finished())


@pytest.mark.parametrize("port", [0, 65_536])
def test_a_public_port_is_one_that_clients_can_send_to(port: int) -> None:
    with pytest.raises(ValidationError):
        QuicSettings(public_port=port)


@pytest.mark.parametrize("name", ["", "chat.example.org:443", "[::1]", "https://chat.example.org"])
def test_a_public_host_is_a_name_or_an_address(name: str) -> None:
    with pytest.raises(ValidationError):
        QuicSettings(public_host=name)


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


async def test_a_greeting_alone_does_not_hold_a_connection() -> None:
    slow = speeds(tokens_per_s=50.0, answer_tokens=100_000)
    async with (
        serving(slow, quic=QuicSettings(idle_timeout_s=60)) as gateway,
        session_with(gateway) as idle,
        session_with(gateway) as reader,
    ):
        assert gateway.quic is not None
        await asking(reader)
        await eventually(lambda: idle.greeting is not None and reader.greeting is not None)
        now = asyncio.get_running_loop().time()
        gateway.quic.close_unused(now + 50)
        assert idle.closed_for is None

        gateway.quic.close_unused(now + 70)
        await soon(idle.wait_closed())
        assert idle.closed_for == "nothing was asked for"
        assert reader.closed_for is None

        # Its patience begins anew with the end of what it read.
        (server,) = gateway.quic._sessions
        for reading in list(server._readers.values()):
            reading.close()
        gateway.quic.close_unused(now + 100)
        assert reader.closed_for is None
        gateway.quic.close_unused(now + 140)
        await soon(reader.wait_closed())


async def test_only_those_who_wait_are_asked_for_signs_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[QuicCarrier] = []
    monkeypatch.setattr(QuicCarrier, "keep_alive", lambda carrier, now: kept.append(carrier))
    slow = speeds(tokens_per_s=50.0, answer_tokens=100_000)
    async with (
        serving(slow, quic=QuicSettings()) as gateway,
        session_with(gateway),
        session_with(gateway) as reader,
    ):
        assert gateway.quic is not None
        await asking(reader)
        gateway.quic.close_unused(asyncio.get_running_loop().time())
        (busy,) = (session for session in gateway.quic._sessions if session.is_busy)
        assert kept == [busy.carrier]


@pytest.mark.parametrize("kind", ["plain", "webtransport"])
async def test_a_connection_on_its_way_to_end_for_silence_is_asked_for_a_sign_of_life(
    kind: str,
) -> None:
    async with pair(kind, QuicSettings(idle_timeout_s=300)) as ends:
        server = ends.server.carrier
        assert isinstance(server, QuicCarrier)
        await eventually(lambda: not server.quic._ack_eliciting_sent_since_receipt)
        confirmed, close_at = server.stats().packets_confirmed, server.quic._close_at
        assert close_at is not None
        idle_s = server.quic._idle_timeout()
        server.keep_alive(close_at - 0.9 * idle_s)
        assert not server.quic._ping_pending
        assert server.quic._close_at == close_at

        server.keep_alive(close_at - 0.5 * idle_s)
        await eventually(lambda: server.stats().packets_confirmed > confirmed)
        assert (server.quic._close_at or 0) > close_at


async def test_browsers_of_either_draft_are_told_that_there_are_sessions() -> None:
    """Chromium asks for the older setting; Safari for the later drafts' own."""
    async with pair("webtransport", QuicSettings()) as ends:
        server = ends.server.carrier
        assert isinstance(server, QuicCarrier)
        assert isinstance(server._framing, WebTransportServer)
        said = server._framing.h3.sent_settings or {}
    assert said[0x2B603742] == said[0x14E9CD29] == 1
