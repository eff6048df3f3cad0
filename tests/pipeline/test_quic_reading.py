"""Answers read over QUIC are the bytes that event streams give, whatever the path does."""

from collections.abc import AsyncIterator

import pytest

from headstart.configs.serving import QuicSettings
from tests.support.events import events
from tests.support.gateway import Gateway, serving, speeds
from tests.support.sessions import asking, events_of, session_with, whole
from tests.support.udp_relay import udp_relay
from tests.support.waiting import soon

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
