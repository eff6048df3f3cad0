"""The client reads by datagrams where they work, by event streams where not, and shows the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncAnswer, AsyncClient
from headstart.client import async_client as async_client_module
from headstart.client.offered import Offered, _address
from headstart.client.quic_session import QuicSession
from headstart.configs.access import AccessSettings, KeySettings
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import Refusal, ResumeOutcome
from headstart.stages import datagram_receiver
from headstart.stages.access import hash_of
from headstart.stages.carrier_ladder import LadderLimits, Rung
from headstart.stages.errors import Cancelled, EngineLost, Unauthenticated
from tests.support.certificates import make_certificate
from tests.support.events import chunks, text
from tests.support.gateway import Gateway, saying, serving, speeds
from tests.support.offering import OtherPort
from tests.support.udp_relay import UdpRelay, udp_relay
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

Answer = AsyncAnswer[ChatCompletionChunk]

ONLY_DATAGRAMS = frozenset({Rung.DATAGRAMS})
UNHURRIED = LadderLimits(race_s=1e6)
"""Datagrams are waited for, not by the reader but by the race: it ends when they have caught up."""


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway that also serves QUIC, whose answers take two seconds."""
    async with serving(
        speeds(tokens_per_s=100.0, answer_tokens=200), quic=QuicSettings()
    ) as gateway:
        yield gateway


@pytest.fixture
async def endless() -> AsyncIterator[Gateway]:
    """The same with answers that do not end by themselves."""
    async with serving(
        speeds(tokens_per_s=50.0, answer_tokens=100_000), quic=QuicSettings()
    ) as gateway:
        yield gateway


@asynccontextmanager
async def reading(
    gateway: Gateway, relay: UdpRelay, limits: LadderLimits | None = UNHURRIED, **options: Any
) -> AsyncIterator[AsyncClient]:
    """A client whose UDP goes through the relay."""
    async with (
        httpx.AsyncClient(
            base_url=gateway.url, timeout=None, transport=OtherPort(relay.port)
        ) as http,
        AsyncClient(http=http, limits=limits, **options) as client,
    ):
        yield client


@asynccontextmanager
async def relayed(gateway: Gateway, **link: Any) -> AsyncIterator[tuple[UdpRelay, AsyncClient]]:
    assert gateway.quic is not None
    async with udp_relay(gateway.quic.port, **link) as relay, reading(gateway, relay) as client:
        await session_of(client)
        yield relay, client


async def session_of(client: AsyncClient) -> QuicSession | None:
    """The session over which datagrams come; None where none can be had."""
    assert client._records is not None
    client.prepare()
    assert client._records._opening is not None
    session = await soon(asyncio.shield(client._records._opening))
    assert session is None or isinstance(session, QuicSession)
    return session


async def ask(client: AsyncClient) -> Answer:
    return await soon(client.chat.completions.create(**saying(), stream=True))


async def until(answer: Answer, rungs: frozenset[Rung]) -> list[ChatCompletionChunk]:
    """Read until the answer comes by these rungs."""
    found = [await soon(anext(answer))]
    while answer.rungs != rungs:
        found.append(await soon(anext(answer)))
    return found


async def rest(answer: Answer) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in answer]


async def as_events(gateway: Gateway, answer: Answer) -> list[ChatCompletionChunk]:
    """What the event stream gives for the same answer."""
    body = (await soon(gateway.client.get(f"/v1/streams/{answer.id}"))).content
    return [ChatCompletionChunk.construct(**chunk) for chunk in chunks(body)]


async def test_a_lossy_path_gives_the_event_streams_chunks(gateway: Gateway) -> None:
    link = {"seed": 5, "loss": 0.1, "duplication": 0.05, "delay_s": 0.01, "jitter_s": 0.03}
    async with relayed(gateway, **link) as (relay, client):
        answer = await ask(client)
        found = await until(answer, ONLY_DATAGRAMS)
        found += await soon(rest(answer))

        assert found == await as_events(gateway, answer)
        assert answer.rungs == ONLY_DATAGRAMS
        assert relay.num_lost > 5


async def test_by_default_an_answer_comes_by_datagrams(gateway: Gateway) -> None:
    async with AsyncClient(gateway.url) as client:
        answers = [await ask(client)]
        await soon(rest(answers[0]))
        answers.append(await ask(client))
        found = await soon(rest(answers[1]))
        assert found == await as_events(gateway, answers[1])
        assert answers[1].rungs == ONLY_DATAGRAMS
        assert gateway.quic is not None
        assert gateway.quic.num_sessions == 1
    await eventually(lambda: gateway.quic is not None and gateway.quic.num_sessions == 0)


async def test_two_answers_share_a_session_and_one_answer_has_two_readers(
    gateway: Gateway,
) -> None:
    async with relayed(gateway, loss=0.05) as (relay, client), reading(gateway, relay) as other:
        answers = [await ask(client), await ask(client)]
        second = other._carriers[Rung.DATAGRAMS].read(answers[0].id, 0, 0)
        async with asyncio.TaskGroup() as group:
            also = group.create_task(soon(_payloads(second)))
            readers = [group.create_task(soon(rest(answer))) for answer in answers]
        read = also.result()

        for answer, reader in zip(answers, readers, strict=True):
            assert reader.result() == await as_events(gateway, answer)
        body = (await soon(gateway.client.get(f"/v1/streams/{answers[0].id}"))).content
        assert b"".join(b"data: %b\n\n" % payload for payload in read) == b"".join(
            line + b"\n\n" for line in body.splitlines() if line.startswith(b"data: ")
        )
        assert gateway.quic is not None
        assert gateway.quic.num_sessions == 2


async def _payloads(batches: AsyncIterator[Any]) -> list[bytes]:
    return [event.payload async for batch in batches for event in batch]


async def test_where_udp_is_blocked_nothing_is_waited_for(gateway: Gateway) -> None:
    """The race has no end here, so whatever is shown did not wait for it."""
    assert gateway.quic is not None
    async with (
        udp_relay(gateway.quic.port, loss=1.0) as relay,
        reading(gateway, relay) as client,
    ):
        answer = await ask(client)
        first = await soon(anext(answer))
        assert answer.rungs == {Rung.SSE, Rung.DATAGRAMS}
        found = [first, *await soon(rest(answer))]

        assert found == await as_events(gateway, answer)
        assert relay.num_passed == 0
        assert relay.num_lost > 0


async def test_a_lost_race_leaves_the_session_to_the_next_answer(gateway: Gateway) -> None:
    assert gateway.quic is not None
    async with (
        udp_relay(gateway.quic.port, loss=1.0) as relay,
        reading(gateway, relay, LadderLimits(race_s=0.05)) as client,
    ):
        answer = await ask(client)
        found = await until(answer, frozenset({Rung.SSE}))
        relay.loss = 0.0
        found += await soon(rest(answer))
        assert found == await as_events(gateway, answer)

        client._limits = UNHURRIED
        later = await ask(client)
        assert await until(later, ONLY_DATAGRAMS)
        await later.cancel()


async def test_an_answer_climbs_to_datagrams_once_their_session_is_there(
    endless: Gateway,
) -> None:
    assert endless.quic is not None
    async with (
        udp_relay(endless.quic.port, loss=1.0) as relay,
        reading(endless, relay, LadderLimits(race_s=0.05)) as client,
    ):
        answer = await ask(client)
        found = await until(answer, frozenset({Rung.SSE}))
        found += [await soon(anext(answer)) for _ in range(5)]
        relay.loss = 0.0
        found += await until(answer, ONLY_DATAGRAMS)
        found += [await soon(anext(answer)) for _ in range(5)]
        await answer.cancel()

        assert found == (await as_events(endless, answer))[: len(found)]
        outcomes = endless.exposition()
        assert outcomes.value("headstart_resumes_total", outcome="climbed") == 1


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_readers_acknowledgements_close_the_last_stages_of_the_request_it_made_by_http(
    gateway: Gateway, is_late: bool
) -> None:
    assert gateway.quic is not None
    async with (
        udp_relay(gateway.quic.port, loss=float(is_late)) as relay,
        reading(gateway, relay, LadderLimits(race_s=0.05) if is_late else UNHURRIED) as client,
    ):
        if not is_late:
            await session_of(client)
        answer = await ask(client)
        await soon(anext(answer))
        relay.loss = 0.0
        await until(answer, ONLY_DATAGRAMS)
        await soon(rest(answer))
        await gateway.unused()

    exposition = gateway.exposition()
    for stage in ("send", "network", "render"):
        name = "headstart_stage_duration_seconds_count"
        assert exposition.value(name, stage=stage, model="fake") == 1, stage
    # Tokens count once, whoever brought them.
    assert exposition.value("headstart_output_tokens_total", model="fake") == 200
    assert exposition.value("headstart_ttft_seconds_count", model="fake") == 1
    # Who reads an ordinary answer by datagrams has not come back for it.
    came = {how: exposition.value("headstart_resumes_total", outcome=how) for how in ResumeOutcome}
    assert came[ResumeOutcome.CLIMBED if is_late else ResumeOutcome.JOINED] == 1
    assert sum(came.values()) == 1
    timing = (await soon(gateway.client.get(f"/v1/streams/{answer.id}/timing"))).json()
    assert 0 <= timing["stages_s"]["network"] < 1


async def test_a_blackout_is_waited_out(gateway: Gateway) -> None:
    async with relayed(gateway, delay_s=0.01) as (relay, client):
        answer = await ask(client)
        found = await until(answer, ONLY_DATAGRAMS)
        relay.is_dark = True
        await soon(gateway.streams.get(answer.id).finished())
        assert len(found) < 200
        relay.is_dark = False
        found += await soon(rest(answer))

        assert found == await as_events(gateway, answer)


async def test_a_long_blackout_of_udp_is_left_for_the_event_stream(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagram_receiver, "_QUIET_S", 0.2)
    async with relayed(gateway) as (relay, client):
        answer = await ask(client)
        found = await until(answer, ONLY_DATAGRAMS)
        relay.is_dark = True
        found += await until(answer, frozenset({Rung.SSE, Rung.DATAGRAMS}))
        found += await soon(rest(answer))

        assert found == await as_events(gateway, answer)


async def test_without_the_end_point_the_event_stream_takes_over(gateway: Gateway) -> None:
    assert gateway.quic is not None
    async with relayed(gateway) as (_relay, client):
        answer = await ask(client)
        found = await until(answer, ONLY_DATAGRAMS)
        await gateway.quic.close()
        found += await soon(rest(answer))

        assert Rung.SSE in answer.rungs
        assert found == await as_events(gateway, answer)


async def test_cancelling_stops_the_engine(endless: Gateway) -> None:
    async with relayed(endless, loss=0.05) as (_relay, client):
        answer = await ask(client)
        await until(answer, ONLY_DATAGRAMS)
        await soon(answer.cancel())

        assert await soon(rest(answer)) == []
        await endless.replica.idle(1.0)
        assert endless.quic is not None
        (session,) = endless.quic._sessions
        await eventually(lambda: not session._readers)


async def test_somebody_elses_cancelling_is_an_error(endless: Gateway) -> None:
    async with relayed(endless) as (_relay, client):
        answer = await ask(client)
        await until(answer, ONLY_DATAGRAMS)
        await soon(endless.client.delete(f"/v1/streams/{answer.id}"))

        with pytest.raises(Cancelled):
            await soon(rest(answer))


async def test_an_answer_with_timings_comes_by_its_event_stream(gateway: Gateway) -> None:
    async with AsyncClient(gateway.url, limits=UNHURRIED) as client:
        answer = await soon(
            client.chat.completions.create(
                **saying(), stream=True, extra_body={"headstart": {"timing": True}}
            )
        )
        *_, last = await soon(rest(answer))

    assert answer.rungs == {Rung.SSE}
    assert last.model_extra is not None
    assert "stages_s" in str(last.model_extra)


async def test_keys_are_asked_for_over_quic_too() -> None:
    access = AccessSettings(
        keys=tuple(KeySettings(id=name, hash=hash_of(f"hs-{name}")) for name in ("alice", "bob"))
    )
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            serving(
                speeds(tokens_per_s=100.0, answer_tokens=100), quic=QuicSettings(), access=access
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
        batches = bob._carriers[Rung.SSE].read(answer.id, 0, 0)
        with pytest.raises(EngineLost):
            await soon(anext(batches))
        async with AsyncClient(gateway.url, api_key="wrong") as mallory:
            with pytest.raises(Unauthenticated):
                await ask(mallory)
        await soon(rest(answer))


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

    async def connect(host: str, port: int, trust: object) -> None:
        asked.append(host)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headstart.client.quic_session.connect", connect)
        async with httpx.AsyncClient(base_url="http://127.0.0.1", transport=transport) as http:
            await soon(Offered(http)())

    assert asked == ["quic.example.org" if is_public else "127.0.0.1"]
