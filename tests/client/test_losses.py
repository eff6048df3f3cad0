"""Connections break, gateways vanish: the reader gets every byte once, or an error."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from random import Random

import httpx
import pytest

from headstart.client import AsyncClient, records, stopping
from headstart.client.carriers import EventStream, Http, Polling
from headstart.stages.carrier_ladder import LadderLimits, Rung
from headstart.stages.errors import Cancelled, EngineLost, EngineUnavailable
from tests.support.events import text
from tests.support.gateway import DATA_PLANE, Gateway, saying, serving, speeds, table
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

SHORT = LadderLimits(resume_s=0.5, min_retry_s=0.01, max_retry_s=0.05)
NUM_TOKENS = 60
IMPATIENT = DATA_PLANE.model_copy(update={"failover_wait_s": 0.05})
"""Where no other replica takes over at once, an answer has failed."""


@pytest.fixture
async def slow() -> AsyncIterator[Gateway]:
    """A gateway whose replica takes half a second for an answer."""
    async with serving(speeds(tokens_per_s=120.0, answer_tokens=NUM_TOKENS)) as gateway:
        yield gateway


class Breaking(httpx.AsyncHTTPTransport):
    """A network on which bodies break off, or stand still, after so many bytes."""

    def __init__(self, cuts: Callable[[], int | None], stands: bool = False) -> None:
        super().__init__()
        self._cuts, self._stands = cuts, stands
        self.is_down = False
        self.stays_down = False
        """Whether the network goes down with the first connection that breaks."""
        self.gateway: httpx.URL | None = None
        """Where requests go instead."""
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.is_down:
            raise httpx.ConnectError("the network is down")
        if self.gateway is not None:
            request.url = request.url.copy_with(port=self.gateway.port)
        response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        is_body = response.headers.get("content-type", "").startswith("text/event-stream")
        if is_body and (cut := self._cuts()) is not None:
            response.stream = _Cut(self, response.stream, cut, self._stands)
        return response


class _Cut(httpx.AsyncByteStream):
    def __init__(
        self, network: Breaking, inner: httpx.AsyncByteStream, left: int, stands: bool
    ) -> None:
        self._network = network
        self._inner, self._left, self._stands = inner, left, stands

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            yield chunk[: self._left]
            self._left -= len(chunk)
            if self._left <= 0:
                if self._stands:
                    await asyncio.Event().wait()
                self._network.is_down = self._network.stays_down
                raise httpx.ReadError("the connection broke")

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def reading(
    gateway: Gateway, network: Breaking, **options: object
) -> AsyncIterator[AsyncClient]:
    """A client on that network."""
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=None, transport=network) as http,
        AsyncClient(http=http, **options) as client,  # type: ignore[arg-type]
    ):
        yield client


async def said(client: AsyncClient) -> str:
    answer = await soon(client.chat.completions.create(**saying(), stream=True))
    parts = [c.delta.content or "" async for chunk in answer for c in chunk.choices]
    return "".join(parts)


def stored(gateway: Gateway) -> asyncio.Future[httpx.Response]:
    path = f"/v1/streams/{gateway.replica.requests[-1].stream_id}"
    return asyncio.ensure_future(gateway.client.get(path))


async def test_connections_that_break_anywhere_cost_no_byte(slow: Gateway) -> None:
    random = Random(7)
    network = Breaking(lambda: random.randint(1, 2_500))

    async with reading(slow, network) as client:
        shown = await soon(said(client))

    assert len(network.requests) > 5
    assert shown == text((await soon(stored(slow))).content)
    assert len(shown.split()) == NUM_TOKENS
    assert len(slow.replica.requests) == 1


@pytest.mark.parametrize("seed", range(6))
async def test_every_place_in_a_body_is_a_place_to_break(gateway: Gateway, seed: int) -> None:
    cuts = iter([40 * seed + step for step in range(30)])
    network = Breaking(lambda: next(cuts, None))

    # Where each try brings nothing, thirty of them take longer on a busy machine.
    async with reading(gateway, network, limits=replace(SHORT, resume_s=30.0)) as client:
        shown = await soon(said(client))

    assert shown == text((await soon(stored(gateway))).content)


async def test_a_blackout_is_waited_out(slow: Gateway) -> None:
    cuts = iter([900])
    network = Breaking(lambda: next(cuts, None))
    network.stays_down = True

    async with reading(slow, network) as client:
        reader = asyncio.ensure_future(said(client))
        await eventually(lambda: network.is_down and len(network.requests) > 3)
        network.is_down = False
        shown = await soon(reader)

    assert shown == text((await soon(stored(slow))).content)


async def test_who_cannot_be_reached_for_long_is_given_up(slow: Gateway) -> None:
    cuts = iter([900])
    network = Breaking(lambda: next(cuts, None))
    network.stays_down = True

    async with reading(slow, network, limits=SHORT) as client:
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        with pytest.raises(EngineLost, match="nobody answers"):
            await soon(_drain(answer))


async def _drain(answer: AsyncIterator[object]) -> int:
    return len([chunk async for chunk in answer])


async def test_a_connection_that_stands_still_is_replaced(slow: Gateway) -> None:
    cuts = iter([700])
    network = Breaking(lambda: next(cuts, None), stands=True)

    async with reading(slow, network, quiet_s=0.3) as client:
        shown = await soon(said(client))

    assert shown == text((await soon(stored(slow))).content)


async def test_event_streams_that_are_held_back_are_polled(slow: Gateway) -> None:
    """Each body stands still after 700 bytes; a poll's is shorter, and ends."""
    network = Breaking(
        lambda: None if "wait" in network.requests[-1].url.params else 0, stands=True
    )

    async with reading(slow, network, quiet_s=0.2) as client:
        shown = await soon(said(client))

    assert shown == text((await soon(stored(slow))).content)
    assert "wait" in network.requests[-1].url.params


async def test_a_gateway_that_was_restarted_knows_nothing_of_the_answer(slow: Gateway) -> None:
    cuts = iter([900])
    network = Breaking(lambda: next(cuts, None))
    network.stays_down = True

    async with serving() as restarted, reading(slow, network) as client:
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        reader = asyncio.ensure_future(_drain(answer))
        await eventually(lambda: network.is_down and len(network.requests) > 3)
        network.gateway, network.is_down = httpx.URL(restarted.url), False

        with pytest.raises(EngineLost, match="does not know this answer") as caught:
            await soon(reader)

    assert caught.value.is_retryable


async def test_a_replica_that_died_meanwhile_is_an_error() -> None:
    async with serving(
        speeds(tokens_per_s=50.0, answer_tokens=1_000), data_plane=IMPATIENT
    ) as gateway:
        cuts = iter([900])
        network = Breaking(lambda: next(cuts, None))
        network.stays_down = True
        async with reading(gateway, network) as client:
            answer = await soon(client.chat.completions.create(**saying(), stream=True))
            reader = asyncio.ensure_future(_drain(answer))
            await eventually(lambda: network.is_down)
            await gateway.replica.die()
            await eventually(lambda: not gateway.streams.live)
            network.is_down = False

            with pytest.raises(EngineUnavailable, match="replica was lost"):
                await soon(reader)


@pytest.mark.parametrize("carrier", [EventStream, Polling])
async def test_an_answer_that_failed_just_where_its_reader_was_tells_why(
    carrier: type[EventStream | Polling],
) -> None:
    async with (
        serving(speeds(tokens_per_s=50.0, answer_tokens=1_000), data_plane=IMPATIENT) as gateway,
        AsyncClient(gateway.url) as client,
    ):
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        await soon(anext(answer))
        stream = gateway.live
        await gateway.replica.die()
        await soon(stream.finished())
        *_, before_last, last = [cursor for cursor, _ in stream.log.frames(0)]

        batches = carrier(Http(client._http)).read(answer.id, last, before_last)
        events = [event async for batch in batches for event in batch]

    assert [event.cursor for event in events] == [None, None]
    assert b"replica was lost" in events[0].payload


async def test_cancelling_stops_the_engine_and_the_iteration() -> None:
    async with (
        serving(speeds(tokens_per_s=50.0, answer_tokens=100_000)) as gateway,
        AsyncClient(gateway.url) as client,
    ):
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        await soon(anext(answer))

        await soon(answer.cancel())

        assert await soon(_drain(answer)) == 0
        await gateway.replica.idle(1.0)


@pytest.mark.parametrize("how", ["cancel", "close", "client"])
async def test_whoever_waits_for_a_chunk_is_told_that_the_answer_was_left(how: str) -> None:
    async with serving(speeds(tokens_per_s=0.001)) as gateway:
        client = AsyncClient(gateway.url)
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        await soon(anext(answer))
        reader = asyncio.ensure_future(_drain(answer))
        await eventually(lambda: bool(answer.cursor and answer._arrivals._getters))  # type: ignore[attr-defined]

        await soon({"cancel": answer.cancel, "close": answer.close, "client": client.close}[how]())

        await soon(reader, 5.0)
        await soon(client.close())
        await gateway.replica.idle(1.0)


@pytest.mark.parametrize("how", ["answer", "client", "with"])
async def test_leaving_an_answer_stops_it(how: str) -> None:
    async with serving(speeds(tokens_per_s=50.0, answer_tokens=100_000)) as gateway:
        client = AsyncClient(gateway.url)
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        await soon(anext(answer))

        if how == "answer":
            await answer.close()
        elif how == "with":
            async with answer:
                pass
        await soon(client.close())

        await gateway.replica.idle(1.0)


async def test_somebody_elses_cancelling_is_an_error() -> None:
    async with (
        serving(speeds(tokens_per_s=50.0, answer_tokens=100_000)) as gateway,
        AsyncClient(gateway.url) as client,
    ):
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        await soon(anext(answer))
        await soon(gateway.client.delete(f"/v1/streams/{answer.id}"))

        with pytest.raises(Cancelled):
            await soon(_drain(answer))


async def test_an_answer_that_cannot_be_stopped_is_said_so(slow: Gateway) -> None:
    network = Breaking(lambda: None)
    async with reading(slow, network) as client:
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        network.is_down = True

        with pytest.raises(EngineUnavailable, match="could not be told"):
            await soon(answer.cancel())


class Dead(httpx.AsyncHTTPTransport):
    """A network on which the first requests to stop something are never answered."""

    def __init__(self, num_lost: int) -> None:
        super().__init__()
        self.num_lost = num_lost
        self.num_waiting = self.most_waiting = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "DELETE" or self.num_lost == 0:
            return await super().handle_async_request(request)
        self.num_lost -= 1
        self.num_waiting += 1
        self.most_waiting = max(self.most_waiting, self.num_waiting)
        try:
            await asyncio.Event().wait()
        finally:
            self.num_waiting -= 1
        raise AssertionError


async def test_a_request_to_stop_that_is_lost_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "_TRY_S", 0.05)
    async with (
        serving(speeds(tokens_per_s=50.0, answer_tokens=100_000)) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=None, transport=Dead(2)) as http,
        AsyncClient(http=http) as client,
    ):
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        await soon(anext(answer))

        await soon(answer.cancel(), 10.0)

        await gateway.replica.idle(1.0)


async def test_closing_a_client_waits_once_for_all_its_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "_TRY_S", 0.05)
    network = Dead(3)
    async with (
        serving(speeds(tokens_per_s=50.0, answer_tokens=100_000)) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=None, transport=network) as http,
    ):
        client = AsyncClient(http=http)
        for _ in range(3):
            await soon(client.chat.completions.create(**saying(), stream=True))

        await soon(client.close(), 10.0)

        assert network.most_waiting == 3


class Session:
    """A datagram session that reads the gateway's own log."""

    def __init__(self, gateway: Gateway, breaks_after: int | None, is_mute: bool) -> None:
        self.closed_for: str | None = None
        self.is_heard = True
        self.gateway, self.breaks_after, self.is_mute = gateway, breaks_after, is_mute
        self.readings: list[str] = []
        self.resumed_after: list[int] = []

    @property
    def is_reading(self) -> bool:
        return bool(self.readings)

    async def resume(
        self, stream_id: str, headers: Sequence[tuple[str, str]], log: bytes
    ) -> "Reading":
        key, (name, why) = headers
        assert (key, name) == (("authorization", "Bearer key"), "x-headstart-why")
        assert why in ("join", "climb", "resume")
        self.readings.append(stream_id)
        self.resumed_after.append(len(log))
        return Reading(self, stream_id, log)

    def drop(self, reading: "Reading") -> None:
        self.readings.remove(reading.stream_id)

    async def heard(self) -> None:
        await asyncio.Event().wait()

    async def stop(self, stream_id: str, headers: Sequence[tuple[str, str]]) -> None:
        raise ConnectionError("nobody answers")

    def close(self) -> None:
        self.closed_for = "closed"


class Reading:
    def __init__(self, session: Session, stream_id: str, log: bytes) -> None:
        self.session, self.stream_id, self.log = session, stream_id, log
        self.num_runs = 0
        self.is_whole, self.error = False, None

    async def records(self) -> AsyncIterator[bytes]:
        stream, cursor = self.session.gateway.streams.get(self.stream_id), len(self.log)
        if self.session.is_mute:
            yield b""
            await asyncio.Event().wait()
        if self.log:
            yield self.log
        while stream.end is None or stream.log.end > cursor:
            await stream.grown(cursor)
            data = stream.log.read(cursor)
            self.log += data
            yield data
            cursor += len(data)
            self.num_runs += 1
            if self.num_runs == self.session.breaks_after:
                self.session.closed_for = "broken"
                return


class Sessions:
    def __init__(
        self, gateway: Gateway, breaks_after: int | None = None, is_mute: bool = False
    ) -> None:
        self.opened: list[Session] = []
        self._gateway, self._breaks_after, self._is_mute = gateway, breaks_after, is_mute

    async def connect(self) -> Session:
        self.opened.append(Session(self._gateway, self._breaks_after, self._is_mute))
        return self.opened[-1]


async def test_datagrams_take_over_and_give_the_same_chunks(slow: Gateway) -> None:
    sessions = Sessions(slow)
    async with AsyncClient(slow.url, api_key="key", datagrams=sessions.connect) as client:
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        seen: set[frozenset[Rung]] = set()
        chunks = []
        async for chunk in answer:
            chunks.append(chunk)
            seen.add(answer.rungs)
    async with AsyncClient(slow.url) as plain:
        again = await soon(plain.chat.completions.create(**saying(), stream=True))
        expected = [chunk async for chunk in again]

    assert frozenset({Rung.DATAGRAMS}) in seen
    volatile = {"id", "created"}
    assert [chunk.model_dump(exclude=volatile) for chunk in chunks] == [
        chunk.model_dump(exclude=volatile) for chunk in expected
    ]


async def test_a_session_that_breaks_leaves_the_event_stream(slow: Gateway) -> None:
    sessions = Sessions(slow, breaks_after=10)
    async with AsyncClient(slow.url, api_key="key", datagrams=sessions.connect) as client:
        shown = await soon(said(client))

    assert len(sessions.opened) > 1
    # What one session has brought, the next does not bring again.
    after = [cursor for session in sessions.opened for cursor in session.resumed_after]
    assert after[0] == 0
    assert all(later > earlier for earlier, later in pairwise(after))
    assert not any(session.readings for session in sessions.opened)
    assert shown == text((await soon(stored(slow))).content)


async def test_a_session_that_is_mute_or_cannot_be_had_costs_nothing(slow: Gateway) -> None:
    async def none() -> Session:
        raise ConnectionRefusedError

    sessions = Sessions(slow, is_mute=True)
    for connect in (sessions.connect, none):
        async with AsyncClient(slow.url, api_key="key", datagrams=connect) as client:
            shown = await soon(said(client))
        assert shown == text((await soon(stored(slow))).content)
    assert not sessions.opened[0].readings


async def test_a_session_whose_server_is_gone_does_not_hold_the_answer_up(
    slow: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(Session):
        async def resume(
            self, stream_id: str, headers: Sequence[tuple[str, str]], log: bytes
        ) -> "Reading":
            await asyncio.Event().wait()
            raise AssertionError

    async def connect() -> Session:
        return Deaf(slow, None, is_mute=False)

    monkeypatch.setattr(records, "_ANSWER_S", 0.05)
    cuts = iter([900])
    network = Breaking(lambda: next(cuts, None))
    async with reading(slow, network, datagrams=connect) as client:
        shown = await soon(said(client))

    assert shown == text((await soon(stored(slow))).content)


async def test_a_fault_of_ours_in_a_session_leaves_the_event_stream(
    slow: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Session):
        async def resume(
            self, stream_id: str, headers: Sequence[tuple[str, str]], log: bytes
        ) -> "Reading":
            raise RuntimeError("a bug of ours")

    async def none() -> Session:
        raise RuntimeError("another bug of ours")

    async def connect() -> Session:
        return Broken(slow, None, is_mute=False)

    for connecting in (none, connect):
        async with AsyncClient(slow.url, api_key="key", datagrams=connecting) as client:
            for _ in range(2):
                shown = await soon(said(client))
                assert shown == text((await soon(stored(slow))).content)
    assert {"a bug of ours", "another bug of ours"} <= {
        str(record.exc_info[1]) for record in caplog.records if record.exc_info
    }


async def test_a_fault_of_ours_in_the_event_stream_is_raised(slow: Gateway) -> None:
    async def fails(request: httpx.Request) -> None:
        if request.method == "GET":
            raise RuntimeError("a bug of ours")

    cuts = iter([900])
    network = Breaking(lambda: next(cuts, None))
    async with reading(slow, network) as client:
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        client._http.event_hooks["request"].append(fails)
        with pytest.raises(RuntimeError, match="a bug of ours"):
            await soon(_drain(answer))


async def test_an_expired_answer_is_not_waited_for() -> None:
    now = [0.0]
    streams = table(ttl_s=10.0, now=lambda: now[0])
    async with (
        serving(speeds(), streams=streams) as gateway,
        AsyncClient(gateway.url) as client,
    ):
        answer = await soon(client.chat.completions.create(**saying(), stream=True))
        await _drain(answer)
        now[0] = 100.0
        streams.expire()
        async with aclosing(EventStream(Http(client._http)).read(answer.id, 0, 0)) as batches:
            with pytest.raises(EngineLost):
                await soon(anext(batches))
