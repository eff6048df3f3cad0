"""Where a client looks for datagrams, whom it trusts, and what it does where there are none."""

from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import httpx
import pytest

from headstart.client import AsyncClient
from headstart.client import async_client as async_client_module
from headstart.client.carriers import EventStream, Http
from headstart.client.offered import Offered, _address
from headstart.configs.access import AccessSettings, KeySettings
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import Refusal
from headstart.stages.access import hash_of
from headstart.stages.carrier_ladder import Rung
from headstart.stages.errors import EngineLost, Unauthenticated
from tests.client.datagram_reading import (
    ONLY_DATAGRAMS,
    UNHURRIED,
    as_events,
    ask,
    rest,
    session_of,
    until,
)
from tests.support.certificates import make_certificate
from tests.support.events import text
from tests.support.gateway import Gateway, saying, serving, speeds
from tests.support.offering import OtherPort
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio


ACCESS = AccessSettings(
    keys=tuple(KeySettings(id=name, hash=hash_of(f"hs-{name}")) for name in ("alice", "bob"))
)


async def test_keys_are_asked_for_over_quic_too() -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            serving(
                speeds(tokens_per_s=100.0, answer_tokens=100), quic=QuicSettings(), access=ACCESS
            )
        )
        alice, bob = [
            await stack.enter_async_context(
                AsyncClient(gateway.url, api_key=f"hs-{name}", limits=UNHURRIED)
            )
            for name in ("alice", "bob")
        ]
        answer = await ask(alice)
        assert len(await until(answer, ONLY_DATAGRAMS)) < 100

        refusals = [
            await refusal_over_quic(bob, answer.id, (("authorization", key),))
            for key in ("Bearer hs-bob", "Bearer wrong")
        ]
        refusals.append(await refusal_over_quic(bob, answer.id, ()))
        assert refusals == [404, 401, 401]
        exposition = gateway.exposition()
        assert exposition.value("headstart_refusals_total", reason=Refusal.UNAUTHENTICATED) == 2

        # Whoever has no right to it learns nothing by the event stream either.
        batches = EventStream(Http(bob._http)).read(answer.id, 0, 0)
        with pytest.raises(EngineLost):
            await soon(anext(batches))
        async with AsyncClient(gateway.url, api_key="wrong") as mallory:
            with pytest.raises(Unauthenticated):
                await ask(mallory)
        await soon(rest(answer))


@pytest.mark.parametrize("has_datagrams", [False, True])
async def test_an_answer_is_read_on_and_stopped_with_the_key_it_was_asked_for_with(
    has_datagrams: bool,
) -> None:
    engine = speeds(tokens_per_s=50.0, answer_tokens=100_000)
    async with (
        serving(engine, quic=QuicSettings(), access=ACCESS) as gateway,
        AsyncClient(
            gateway.url, api_key="hs-alice", limits=UNHURRIED, datagrams=has_datagrams
        ) as client,
    ):
        answer = await soon(
            client.chat.completions.create(
                **saying(), stream=True, extra_headers={"Authorization": "Bearer hs-bob"}
            )
        )
        if has_datagrams:
            await until(answer, ONLY_DATAGRAMS)
        else:
            await soon(anext(answer))
            async with aclosing(answer._carriers[Rung.SSE].read(answer.id, 0, 0)) as batches:
                assert await soon(anext(batches)) == ()

        await soon(answer.cancel())
        await gateway.replica.idle(1.0)


async def refusal_over_quic(
    client: AsyncClient, stream: str, headers: tuple[tuple[str, str], ...]
) -> int:
    session = await session_of(client)
    assert session is not None
    refused = await soon(session.resume(stream, headers))
    await soon(refused.finished())
    assert refused.answer is not None
    assert not refused.log
    return refused.answer.status


async def test_without_aioquic_nobody_asks(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_client_module, "can_read_datagrams", lambda: False)
    transport = OtherPort(1)
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=None, transport=transport) as http,
        AsyncClient(http=http) as client,
    ):
        answer = await ask(client)
        assert text((await soon(gateway.client.get(f"/v1/streams/{answer.id}"))).content)
        await soon(rest(answer))

    assert answer.rungs == {Rung.SSE}
    assert transport.num_asked == 0


async def test_a_gateway_without_quic_is_asked_once() -> None:
    transport = OtherPort(1)
    async with (
        serving() as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=None, transport=transport) as http,
        AsyncClient(http=http) as client,
    ):
        for _ in range(3):
            await soon(rest(await ask(client)))

    assert transport.num_asked == 1


async def test_a_certificate_of_ones_own_is_checked_against_the_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificate(tmp_path)
    quic = QuicSettings(certificate_file=str(made.cert_file), key_file=str(made.key_file))
    async with serving(speeds(tokens_per_s=100.0, answer_tokens=100), quic=quic) as gateway:
        async with AsyncClient(gateway.url, limits=UNHURRIED) as client:
            answer = await ask(client)
            assert await soon(rest(answer)) == await as_events(gateway, answer)
            assert answer.rungs == {Rung.SSE}

        monkeypatch.setenv("SSL_CERT_FILE", str(made.cert_file))
        async with AsyncClient(gateway.url, limits=UNHURRIED) as client:
            answer = await ask(client)
            found = await until(answer, ONLY_DATAGRAMS)
            assert found + await soon(rest(answer)) == await as_events(gateway, answer)


@pytest.mark.parametrize(
    ("announced", "asked", "is_pinned", "expected"),
    [
        ("127.0.0.1", "localhost", True, "127.0.0.1"),
        ("0.0.0.0", "10.0.0.5", True, "10.0.0.5"),
        ("::", "llm.example.com", True, "llm.example.com"),
        ("127.0.0.1", "llm.example.com", True, "llm.example.com"),
        ("10.0.0.5", "10.0.0.6", True, "10.0.0.5"),
        ("10.0.0.5", "llm.example.com", False, "llm.example.com"),
    ],
)
def test_the_address_is_one_that_a_client_can_reach(
    announced: str, asked: str, is_pinned: bool, expected: str
) -> None:
    assert _address(announced, asked, is_pinned=is_pinned) == expected


@pytest.mark.parametrize("is_public", [True, False])
async def test_a_host_that_was_set_for_clients_is_where_they_connect(is_public: bool) -> None:
    """Set, it stands above where HTTP is, even with a certificate of an authority."""
    offer = {"version": 1, "host": "quic.example.org", "port": 7, "certificate_hashes": []}
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, json=offer | {"is_public": is_public})
    )
    asked: list[str] = []

    async def connect(host: str, port: int, trust: object, **tickets: object) -> None:
        asked.append(host)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headstart.client.quic_session.connect", connect)
        async with httpx.AsyncClient(base_url="http://127.0.0.1", transport=transport) as http:
            await soon(Offered(http)())

    assert asked == ["quic.example.org" if is_public else "127.0.0.1"]
