"""The client reads by datagrams where they work, by event streams where not, and shows the same."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncClient, records
from headstart.client.offered import Offered
from headstart.client.quic_session import QuicSession
from headstart.client.records import Records
from headstart.client.session_wire import Request
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import ResumeOutcome
from headstart.pipeline import quic_listener
from headstart.pipeline.quic_exchange import Exchange
from headstart.pipeline.quic_session import Session
from headstart.stages import datagram_receiver
from headstart.stages.carrier_ladder import LadderLimits, Rung
from headstart.stages.errors import Cancelled
from tests.client.datagram_reading import (
    ONLY_DATAGRAMS,
    UNHURRIED,
    Answer,
    as_events,
    ask,
    reading,
    relayed,
    rest,
    session_of,
    until,
)
from tests.support.gateway import Gateway, saying, serving, speeds
from tests.support.udp_relay import udp_relay
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio


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


async def test_a_lossy_path_gives_the_event_streams_chunks(gateway: Gateway) -> None:
    link = {"seed": 5, "loss": 0.1, "duplication": 0.05, "delay_s": 0.01, "jitter_s": 0.03}
    async with relayed(gateway, **link) as (relay, client):
        answer = await ask(client)
        found = await until(answer, ONLY_DATAGRAMS)
        found += await soon(rest(answer))

        assert found == await as_events(gateway, answer)
        assert answer.rungs == ONLY_DATAGRAMS
        assert relay.num_lost > 5


async def test_a_session_opens_while_a_prompt_is_typed(gateway: Gateway) -> None:
    async with AsyncClient(gateway.url) as client, await soon(client.live()) as prompt:
        await soon(prompt.append("Name three colours."))

        assert client._sessions is not None
        assert client._sessions._opening is not None
        await soon(client._sessions._opening)
        assert isinstance(client._sessions.open, QuicSession)


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


async def test_a_gateway_that_sends_no_datagrams_is_read_by_its_streams_at_once() -> None:
    async with (
        serving(
            speeds(tokens_per_s=100.0, answer_tokens=200), quic=QuicSettings(scheme="stream")
        ) as gateway,
        AsyncClient(gateway.url) as client,
    ):
        session = await session_of(client)
        answer = await ask(client)
        found = await until(answer, ONLY_DATAGRAMS)
        assert len(found) < 100
        found += await soon(rest(answer))

        assert found == await as_events(gateway, answer)
        assert answer.rungs == ONLY_DATAGRAMS
        assert session is not None
        stats = session.carrier.stats()
        assert (stats.sent, stats.received) == (0, 0)


async def test_two_answers_share_a_session_and_one_answer_has_two_readers(
    gateway: Gateway,
) -> None:
    async with relayed(gateway, loss=0.05) as (relay, client), reading(gateway, relay) as other:
        answers = [await ask(client), await ask(client)]
        assert other._sessions is not None
        second = Records(other._sessions).read(answers[0].id, 0, 0)
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


async def test_the_next_question_finds_a_connection(gateway: Gateway) -> None:
    async with relayed(gateway) as (_, client):
        answer = await ask(client)
        await until(answer, ONLY_DATAGRAMS)
        assert client._spare is None
        await soon(rest(answer))
        assert client._spare is not None
        await soon(asyncio.shield(client._spare))
        (link,) = await soon(_idle_connections(client))

        again = await ask(client)
        assert link not in await _idle_connections(client)
        await again.close()


async def _idle_connections(client: AsyncClient) -> list[Any]:
    pool = client._http._transport._pool  # type: ignore[attr-defined]
    return [each for each in pool.connections if each.is_idle()]


async def test_another_session_goes_on_where_the_last_one_was(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    after: list[str] = []
    carry = Session._carry

    def carried(session: Session, request: Request, *rest: Any) -> None:
        after.append(request.path.partition("?after=")[2])
        carry(session, request, *rest)

    monkeypatch.setattr(Session, "_carry", carried)
    async with relayed(gateway) as (_, client):
        answer = await ask(client)
        found = await until(answer, ONLY_DATAGRAMS)
        session = await session_of(client)
        assert session is not None
        session.close()
        found += await soon(rest(answer))

        assert found == await as_events(gateway, answer)
        assert len(after) == 2
        assert after[0] == "0"
        assert int(after[1]) > 0


async def session_with_ticket(client: AsyncClient) -> QuicSession:
    """A session of which a ticket is here for the next one."""
    session = await session_of(client)
    assert session is not None
    assert client._sessions is not None
    offered = client._sessions._connect
    assert isinstance(offered, Offered)
    await eventually(lambda: offered._ticket is not None)
    return session


async def test_another_session_asks_with_its_first_packet(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    class Watching(Session):
        def established(self) -> None:
            order.append("established")
            super().established()

        def _start(self, stream_id: int, exchange: Exchange) -> None:
            order.append(exchange.request.method)
            super()._start(stream_id, exchange)

    monkeypatch.setattr("headstart.pipeline.quic_endpoint.Session", Watching)
    async with relayed(gateway, delay_s=0.1) as (_, client):
        session = await session_with_ticket(client)
        answer = await ask(client)
        found = await until(answer, ONLY_DATAGRAMS)
        order.clear()
        session.close()
        found += await soon(rest(answer))

        assert found == await as_events(gateway, answer)
        assert answer.rungs == ONLY_DATAGRAMS
    assert order == ["GET", "established"]


async def test_a_ticket_that_is_not_taken_costs_one_try(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic_listener, "_MAX_TICKETS", 0)
    async with AsyncClient(gateway.url, limits=UNHURRIED) as client:
        session = await session_with_ticket(client)
        session.close()
        answers = [await ask(client)]
        await soon(rest(answers[0]))
        answers.append(await ask(client))
        found = await soon(rest(answers[1]))
        assert found == await as_events(gateway, answers[1])
        assert answers[1].rungs == ONLY_DATAGRAMS


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
        assert outcomes.value("headstart_resumes_total", carrier="quic", outcome="climbed") == 1


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
    came = {
        how: exposition.value("headstart_resumes_total", carrier="quic", outcome=how)
        for how in ResumeOutcome
    }
    # One whose datagrams lost the race at its beginning may climb to them later.
    at_first, later = came.pop(ResumeOutcome.JOINED), came.pop(ResumeOutcome.CLIMBED)
    assert (at_first + later >= 1) if is_late else (at_first, later) == (1, 0)
    assert sum(came.values()) == 0
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


async def in_the_dark(answer: Answer, seconds: float) -> list[ChatCompletionChunk]:
    """What comes of an answer in that time, in which its event stream has to take over."""
    dark_until = asyncio.get_running_loop().time() + seconds
    found = await soon(until(answer, frozenset({Rung.SSE, Rung.DATAGRAMS})), 20.0)
    while asyncio.get_running_loop().time() < dark_until:
        found.append(await soon(anext(answer)))
    return found


@pytest.mark.parametrize(
    ("quiet_s", "dark_s"), [(0.2, 1.5), pytest.param(3.0, 12.0, marks=pytest.mark.heavy)]
)
async def test_a_long_blackout_of_udp_is_left_for_the_event_stream_and_ends_on_datagrams(
    endless: Gateway, monkeypatch: pytest.MonkeyPatch, quiet_s: float, dark_s: float
) -> None:
    monkeypatch.setattr(datagram_receiver, "_QUIET_S", quiet_s)
    monkeypatch.setattr(records, "_ANSWER_S", quiet_s)
    async with relayed(endless) as (relay, client):
        answers = [await ask(client), await ask(client)]
        found = [await until(answer, ONLY_DATAGRAMS) for answer in answers]
        session = await session_of(client)
        relay.is_dark = True
        dark = [in_the_dark(answer, dark_s) for answer in answers]
        found += await asyncio.gather(*dark)
        # One that is asked for now tries them for as long, and does the others no harm.
        late = await ask(client)
        dark_until = asyncio.get_running_loop().time() + 5 * quiet_s
        while asyncio.get_running_loop().time() < dark_until:
            await soon(anext(late), 20.0)
        assert late.rungs == {Rung.SSE}
        relay.is_dark = False
        found += [await soon(until(answer, ONLY_DATAGRAMS), 20.0) for answer in answers]

        assert session is not None
        assert session.closed_for is None
        await soon(until(late, ONLY_DATAGRAMS), 20.0)
        for number, answer in enumerate(answers):
            await soon(answer.cancel())
            read = [chunk for part in found[number::2] for chunk in part]
            assert read == (await as_events(endless, answer))[: len(read)]


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


@pytest.mark.parametrize("is_session_dead", [False, True])
async def test_an_answer_is_stopped_by_whichever_way_is_open(
    endless: Gateway, monkeypatch: pytest.MonkeyPatch, is_session_dead: bool
) -> None:
    async def unreachable(*_: Any, **__: Any) -> httpx.Response:
        raise httpx.ConnectError("the network is down")

    async with relayed(endless) as (relay, client):
        answer = await ask(client)
        await until(answer, ONLY_DATAGRAMS)
        if is_session_dead:
            relay.is_dark = True
        else:
            monkeypatch.setattr(client._http, "delete", unreachable)

        await soon(answer.cancel(), 2.0)

        await endless.replica.idle(1.0)


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
