"""Answers read over QUIC are the bytes that event streams give, whatever the path does."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from headstart.client.quic_carrier import QuicCarrier
from headstart.client.quic_connect import rebind
from headstart.client.reading import Reading
from headstart.client.session_wire import WHY_HEADER, Why
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import Outcome
from headstart.pipeline.log_reader import LogReader
from headstart.pipeline.request_pace import RequestPace
from headstart.stages import path_watch
from headstart.stages.congestion import TripReason
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.frames import decode_frame, record_bounds
from headstart.stages.published_eloquent import PublishedReceiver
from headstart.stages.wire import Ack, decode_datagram
from tests.support.events import events
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.sessions import asking, events_of, session_with, whole
from tests.support.udp_relay import udp_relay
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with serving(
        speeds(tokens_per_s=200.0, answer_tokens=40), quic=QuicSettings()
    ) as gateway:
        yield gateway


async def as_events(gateway: Gateway, stream_id: str | None) -> bytes:
    """What HTTP gives for the same answer, without the cursors."""
    assert stream_id is not None
    answer = await soon(gateway.client.get(f"/v1/streams/{stream_id}"))
    return b"".join(b"data: %b\n\n" % event.data.encode() for event in events(answer.content))


@pytest.mark.parametrize("is_webtransport", [False, True])
async def test_an_answer_is_read_by_datagrams(gateway: Gateway, is_webtransport: bool) -> None:
    async with session_with(gateway, is_webtransport=is_webtransport) as session:
        reading = await asking(session)
        log = await whole(reading)

        assert log == gateway.streams.get(reading.stream_id or "").log.read(0)
        assert events_of(log) == await as_events(gateway, reading.stream_id)
        exposition = gateway.exposition()
        assert exposition.value("headstart_datagrams_total", cause="new") >= 5
        assert exposition.value("headstart_catch_ups_total") == 0


async def test_an_answer_survives_a_bad_path(gateway: Gateway) -> None:
    assert gateway.quic is not None
    async with (
        udp_relay(
            gateway.quic.port, seed=3, loss=0.1, duplication=0.05, delay_s=0.02, jitter_s=0.03
        ) as relay,
        session_with(gateway, relay.port) as session,
    ):
        readings = [await asking(session) for _ in range(3)]
        logs = [await whole(reading) for reading in readings]

        for reading, log in zip(readings, logs, strict=True):
            assert events_of(log) == await as_events(gateway, reading.stream_id)
        assert relay.num_lost > 5


async def test_the_papers_rule_gives_the_same_answer_in_more_bytes() -> None:
    sent: dict[str, float] = {}
    for scheme, receiver in (("snapshots", DatagramReceiver), ("published", PublishedReceiver)):
        settings = QuicSettings.model_validate({"scheme": scheme})
        async with (
            serving(speeds(tokens_per_s=200.0, answer_tokens=60), quic=settings) as gateway,
            udp_relay(gateway.quic.port, seed=3, loss=0.1, delay_s=0.02) as relay,  # type: ignore[union-attr]
            session_with(gateway, relay.port, receiver=receiver) as session,
        ):
            reading = await asking(session)
            log = await whole(reading)

            assert events_of(log) == await as_events(gateway, reading.stream_id)
            sent[scheme] = gateway.exposition().value("headstart_datagrams_total", cause="new")
    assert sent["published"] >= 60 > sent["snapshots"]


async def test_an_answer_goes_on_after_a_blackout(gateway: Gateway) -> None:
    assert gateway.quic is not None
    async with (
        udp_relay(gateway.quic.port, delay_s=0.01) as relay,
        session_with(gateway, relay.port) as session,
    ):
        reading = await asking(session)
        await eventually(lambda: len(reading.log) > 100)
        relay.is_dark = True
        stream = gateway.streams.get(reading.stream_id or "")
        await soon(stream.finished())
        assert not reading.is_over

        relay.is_dark = False

        assert events_of(await whole(reading)) == await as_events(gateway, reading.stream_id)


async def test_what_no_two_datagrams_can_carry_comes_over_a_stream() -> None:
    async with serving(
        speeds(tokens_per_s=2000.0, answer_tokens=1500), quic=QuicSettings()
    ) as gateway:
        assert gateway.quic is not None
        async with (
            udp_relay(gateway.quic.port, delay_s=0.02) as relay,
            session_with(gateway, relay.port) as session,
        ):
            reading = await asking(session)
            await eventually(lambda: len(reading.log) > 100)
            relay.is_dark = True
            await soon(gateway.streams.get(reading.stream_id or "").finished())
            relay.is_dark = False

            assert events_of(await whole(reading)) == await as_events(gateway, reading.stream_id)
            assert gateway.exposition().value("headstart_catch_ups_total") >= 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_an_answer_goes_on_after_the_path_has_changed(
    gateway: Gateway, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[LogReader] = []
    begin_anew = LogReader.path_changed

    def path_changed(reader: LogReader) -> None:
        forgotten.append(reader)
        begin_anew(reader)

    monkeypatch.setattr(LogReader, "path_changed", path_changed)
    assert gateway.quic is not None
    async with (
        udp_relay(gateway.quic.port, delay_s=0.01) as relay,
        session_with(gateway, relay.port) as session,
    ):
        reading = await asking(session)
        await eventually(lambda: len(reading.log) > 100)
        await relay.rebind(host)

        assert events_of(await whole(reading)) == await as_events(gateway, reading.stream_id)
        assert session.closed_for is None
        assert gateway.quic.num_sessions == 1
    # From another port of the same address it is most often the same path.
    assert len(forgotten) == (host != "127.0.0.1")


async def test_a_client_may_change_its_own_path(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        reading = await asking(session)
        await eventually(lambda: len(reading.log) > 100)
        assert isinstance(session.carrier, QuicCarrier)
        await rebind(session.carrier)

        assert events_of(await whole(reading)) == await as_events(gateway, reading.stream_id)


async def test_two_sessions_read_one_answer_and_either_stops_it() -> None:
    async with serving(
        speeds(tokens_per_s=50.0, answer_tokens=2000), quic=QuicSettings()
    ) as gateway:
        async with session_with(gateway) as one, session_with(gateway) as other:
            first = await asking(one)
            assert first.stream_id is not None
            await eventually(lambda: len(first.log) > 100)
            second = await soon(other.resume(first.stream_id))
            await eventually(lambda: len(second.log) > 100)

            assert (await soon(other.stop(first.stream_id))).status == 204
            for reading in (first, second):
                await soon(reading.finished())
                assert reading.is_whole
                assert reading.error is not None
                assert reading.error["type"] == "CancelledError"
            assert first.log == second.log == gateway.streams.get(first.stream_id).log.read(0)
        await gateway.unused()


async def test_an_answer_is_read_on_in_another_session(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        reading = await asking(session)
        await eventually(lambda: len(reading.log) > 100)
    assert reading.is_over
    assert not reading.is_whole
    assert reading.stream_id is not None
    async with session_with(gateway) as session:
        resumed = await soon(session.resume(reading.stream_id, log=reading.log))
        log = await whole(resumed)
        assert log.startswith(reading.log)
        assert events_of(log) == await as_events(gateway, reading.stream_id)

        again = await soon(session.resume(reading.stream_id, log=log))
        assert await whole(again) == log
        assert (
            gateway.exposition().value("headstart_resumes_total", carrier="quic", outcome="resumed")
            == 2
        )


async def test_a_reader_says_why_it_comes(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        reading = await asking(session)
        await whole(reading)
        assert reading.stream_id is not None
        for why in (*Why, "sideways"):
            again = await soon(session.resume(reading.stream_id, ((WHY_HEADER, why),)))
            await whole(again)
        exposition = gateway.exposition()
        for outcome, count in (("joined", 1), ("climbed", 1), ("resumed", 2), ("refused", 0)):
            assert (
                exposition.value("headstart_resumes_total", carrier="quic", outcome=outcome)
                == count
            )


async def test_a_peer_without_datagrams_reads_a_stream(gateway: Gateway) -> None:
    async with session_with(gateway, has_datagrams=False) as session:
        reading = await asking(session)
        assert events_of(await whole(reading)) == await as_events(gateway, reading.stream_id)
        exposition = gateway.exposition()
        assert exposition.value("headstart_fallbacks_total", reason="no_datagrams") == 1
    await gateway.unused()


@pytest.mark.parametrize("is_webtransport", [False, True])
async def test_a_gateway_may_send_everybody_streams_alone(is_webtransport: bool) -> None:
    """As the benchmark's arm of WebTransport streams: its session has negotiated datagrams."""
    async with (
        serving(
            speeds(tokens_per_s=200.0, answer_tokens=40), quic=QuicSettings(scheme="stream")
        ) as gateway,
        session_with(gateway, is_webtransport=is_webtransport) as session,
    ):
        await eventually(lambda: session.greeting is not None)
        assert session.carrier.max_payload() > 0
        reading = await asking(session)
        log = await whole(reading)

        assert log == gateway.streams.get(reading.stream_id or "").log.read(0)
        assert events_of(log) == await as_events(gateway, reading.stream_id)
        assert gateway.quic is not None
        (server,) = gateway.quic._sessions
        for end in (session.carrier, server.carrier):
            assert (end.stats().sent, end.stats().received) == (0, 0)
        assert gateway.exposition().value("headstart_fallbacks_total", reason="no_datagrams") == 1
    await gateway.unused()


async def test_a_peer_without_datagrams_hears_of_an_end_without_news() -> None:
    async with serving(
        speeds(time_to_first_token_s=0.0, tokens_per_s=0.5, answer_tokens=2000), quic=QuicSettings()
    ) as gateway:
        async with session_with(gateway, has_datagrams=False) as session:
            reading = await asking(session)
            assert reading.stream_id is not None
            stream = gateway.streams.get(reading.stream_id)
            # All that there is has come, and the next token is two seconds away.
            await eventually(lambda: len(reading.log) == stream.log.end > stream.log.header_end)

            assert (await soon(session.stop(reading.stream_id))).status == 204
            await soon(reading.finished())
            assert reading.error is not None
            assert reading.error["type"] == "CancelledError"
        await gateway.unused()


async def test_a_path_that_breaks_midway_is_left_for_a_stream(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        reading = await asking(session)
        await eventually(lambda: len(reading.log) > 100)
        assert gateway.quic is not None
        (server,) = gateway.quic._sessions
        carrier = server._carrier
        assert isinstance(carrier, QuicCarrier)
        carrier._control.broken = TripReason.HEAVY_LOSS
        carrier.transmit()

        assert events_of(await whole(reading)) == await as_events(gateway, reading.stream_id)
        exposition = gateway.exposition()
        assert exposition.value("headstart_fallbacks_total", reason="heavy_loss") == 1


@pytest.mark.parametrize("lost", ["datagrams", "acknowledgements"])
async def test_a_path_that_loses_datagrams_alone_is_left_for_a_stream(
    lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that passes no long packets, or a peer that forgets them: QUIC confirms the rest."""
    monkeypatch.setattr(path_watch, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(path_watch, "_IN_FLIGHT_S", 0.05)
    async with (
        serving(speeds(tokens_per_s=50.0, answer_tokens=100), quic=QuicSettings()) as gateway,
        session_with(gateway) as session,
    ):
        if lost == "datagrams":
            monkeypatch.setattr(session, "datagram", lambda data: None)
        else:
            monkeypatch.setattr(session, "_send", lambda number, data: None)
        reading = await asking(session)

        assert events_of(await whole(reading)) == await as_events(gateway, reading.stream_id)
        exposition = gateway.exposition()
        assert exposition.value("headstart_fallbacks_total", reason="unanswered") == 1


async def test_an_answer_that_is_one_body_is_carried_too(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        body = msgspec.json.encode(saying())
        log = await whole(await soon(session.ask("POST", CHAT, body=body)))

        (_, _), *frames = record_bounds(log)
        payload = b"".join(decode_frame(log[start:stop]).payload or b"" for start, stop in frames)
        assert msgspec.json.decode(payload)["object"] == "chat.completion"


async def test_what_is_no_answer_comes_as_a_body(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        models = await soon(session.ask("GET", "/v1/models"))
        await soon(models.finished())
        assert models.answer is not None
        assert models.answer.status == 200
        assert models.body == (await gateway.client.get("/v1/models")).content

        missing = await soon(session.resume("nobody-made-this"))
        await soon(missing.finished())
        assert missing.answer is not None
        assert missing.answer.status == 404
        assert msgspec.json.decode(missing.body)["error"]["type"] == "NotFoundError"
        assert (
            gateway.exposition().value("headstart_resumes_total", carrier="quic", outcome="refused")
            == 1
        )


async def test_an_answer_is_stopped_whose_asker_leaves_before_its_head_comes() -> None:
    async with serving(
        speeds(tokens_per_s=50.0, answer_tokens=2000), quic=QuicSettings()
    ) as gateway:
        assert gateway.quic is not None
        async with (
            udp_relay(gateway.quic.port, delay_s=0.1) as relay,
            session_with(gateway, relay.port) as session,
        ):
            task = asyncio.ensure_future(asking(session))
            await eventually(lambda: bool(gateway.streams.live))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            await gateway.unused()
            assert gateway.count(Outcome.CANCELLED) == 1
            assert session.closed_for is None


async def test_a_reader_that_acknowledges_closes_the_last_stages(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        reading = await asking(session)
        assert await soon(handed_on(reading)) == await whole(reading)
        await gateway.unused()

        exposition = gateway.exposition()
        for stage in ("send", "network", "render"):
            name = "headstart_stage_duration_seconds_count"
            assert exposition.value(name, stage=stage, model="fake") == 1, stage
        timing = (await gateway.client.get(f"/v1/streams/{reading.stream_id}/timing")).json()
        assert 0 <= timing["stages_s"]["network"] < 1
        assert exposition.value("headstart_render_gap_seconds_count") > 3
        assert exposition.value("headstart_ttft_seconds_count", model="fake") == 1
        assert exposition.value("headstart_output_tokens_total", model="fake") == 40


async def test_text_is_shown_when_its_reader_takes_it() -> None:
    acks: list[Ack] = []
    slow = speeds(tokens_per_s=40.0, answer_tokens=40)
    async with serving(slow, quic=QuicSettings()) as gateway, session_with(gateway) as session:
        reading = await asking(session)
        send = reading._send

        def seen(number: int, data: bytes) -> None:
            ack = decode_datagram(data)
            assert isinstance(ack, Ack)
            acks.append(ack)
            send(number, data)

        reading._send = seen
        await eventually(lambda: len(acks) > 3)
        # Nobody has taken anything: it is here, and not shown.
        assert {ack.rendered_us for ack in acks} == {None}
        assert acks[-1].have > 0

        assert await soon(handed_on(reading)) == await whole(reading)
        assert any(ack.rendered_us is not None for ack in acks)


async def handed_on(reading: Reading) -> bytes:
    return b"".join([records async for records in reading.records()])


async def test_an_answer_outlives_the_session_that_asked(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        reading = await asking(session)
    stream = gateway.streams.get(reading.stream_id or "")
    await soon(stream.finished())
    assert stream.end is not None
    assert not stream.end.is_aborted
    await gateway.unused()
    assert gateway.count(Outcome.COMPLETED) == 1


async def test_a_dropped_answer_is_sent_no_more(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        reading = await asking(session)
        session.drop(reading)
        assert gateway.quic is not None
        (server,) = gateway.quic._sessions
        await eventually(lambda: not server._readers)
        assert reading.is_over


async def test_a_reader_that_fails_takes_nobody_with_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with session_with(gateway) as one, session_with(gateway) as other:
        first = await asking(one)
        second = await soon(other.resume(first.stream_id or ""))
        assert gateway.quic is not None
        reader = next(
            session._readers[first.number]
            for session in gateway.quic._sessions
            if isinstance(session._readers[first.number]._pace, RequestPace)
        )

        def fail(action: object, now: float) -> None:
            raise RuntimeError("a bug of ours")

        monkeypatch.setattr(reader, "_transmit", fail)
        await soon(first.finished())
        assert first.error is not None
        assert first.error["type"] == "InternalServerError"
        assert not first.is_whole

        assert events_of(await whole(second)) == await as_events(gateway, first.stream_id)
