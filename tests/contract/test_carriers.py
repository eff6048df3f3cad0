"""What every carrier promises, whatever it is made of."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headstart.client.quic_carrier import QuicCarrier
from headstart.stages.congestion import PACKET_BYTES
from headstart.stages.errors import ProtocolViolation
from tests.support.carriers import End, MemoryCarrier, Pair, pair
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["plain", "webtransport", "memory"])
async def ends(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    async with pair(request.param) as ends:
        yield ends


def block(end: End) -> None:
    """Take away all room for datagrams."""
    if isinstance(end.carrier, MemoryCarrier):
        end.carrier.window = 0
    else:
        assert isinstance(end.carrier, QuicCarrier)
        control = end.carrier._control
        control.machine.in_flight_bytes = control.machine.window_bytes
        control.machine._last_sent_at = end.carrier._loop.time() + 3600


def unblock(end: End) -> None:
    if isinstance(end.carrier, MemoryCarrier):
        end.carrier.open_window()
    else:
        assert isinstance(end.carrier, QuicCarrier)
        end.carrier._control.machine.in_flight_bytes = 0
        end.carrier.transmit()


def allow_one(end: End) -> None:
    """Make room for one datagram."""
    if isinstance(end.carrier, MemoryCarrier):
        end.carrier.open_window(1)
    else:
        assert isinstance(end.carrier, QuicCarrier)
        machine = end.carrier._control.machine
        machine.in_flight_bytes = machine.window_bytes - PACKET_BYTES
        pacer: Any = end.carrier._quic._loss._pacer
        pacer.next_send_time = lambda now: None
        end.carrier.transmit()


async def test_datagrams_go_both_ways(ends: Pair) -> None:
    assert ends.client.carrier.send_latest(1, b"up")
    assert ends.server.carrier.send_latest(1, b"down")

    await eventually(lambda: ends.server.told.datagrams == [b"up"])
    await eventually(lambda: ends.client.told.datagrams == [b"down"])
    assert ends.client.carrier.stats().sent == ends.client.carrier.stats().received == 1


async def test_the_longest_datagram_arrives_and_a_longer_one_is_refused(ends: Pair) -> None:
    carrier = ends.server.carrier
    longest = bytes(carrier.max_payload())
    assert len(longest) >= 1000

    with pytest.raises(ProtocolViolation):
        carrier.send_latest(1, longest + b"x")
    carrier.send_latest(1, longest)
    await eventually(lambda: ends.client.told.datagrams == [longest])

    # Nothing was left behind that would block what follows.
    carrier.send_latest(1, b"after")
    await eventually(lambda: ends.client.told.datagrams == [longest, b"after"])
    assert carrier.stats().oversize == 1


async def test_the_newest_of_a_stream_leaves_when_there_is_room(ends: Pair) -> None:
    server = ends.server
    block(server)
    for text in (b"old", b"newer", b"newest"):
        assert not server.carrier.send_latest(1, text)
    assert not server.carrier.send_latest(2, b"other")
    assert server.carrier.stats().sent == 0

    unblock(server)

    await eventually(lambda: len(ends.client.told.datagrams) == 2)
    assert sorted(ends.client.told.datagrams) == [b"newest", b"other"]
    assert server.told.num_ready == 1
    assert server.carrier.stats().replaced == 2


async def test_streams_take_turns_where_there_is_room_for_one(ends: Pair) -> None:
    server = ends.server
    readers = range(8)

    def send_all() -> None:
        for number in readers:
            server.carrier.send_latest(number, b"%d" % number)

    server.told.ready = send_all  # type: ignore[method-assign]
    for _ in range(300):
        block(server)
        send_all()
        allow_one(server)
        await asyncio.sleep(0)

    await eventually(lambda: len(ends.client.told.datagrams) >= 250, 5)
    counts = [ends.client.told.datagrams.count(b"%d" % number) for number in readers]
    assert max(counts) <= 1.6 * min(counts), counts


@pytest.mark.parametrize("kind", ["plain", "webtransport"])
async def test_datagrams_and_streams_take_turns_in_one_window(kind: str) -> None:
    async with pair(kind) as ends:
        server = ends.server
        assert isinstance(server.carrier, QuicCarrier)
        block(server)
        pushed = server.carrier.open_stream(is_bidirectional=False)
        server.carrier.write(pushed, bytes(200_000), is_end=True)

        def send_all() -> None:
            for number in range(3):
                server.carrier.send_latest(number, bytes(1000))

        server.told.ready = send_all  # type: ignore[method-assign]
        send_all()
        first_packet = server.carrier.quic._packet_number
        for _ in range(20):
            block(server)
            allow_one(server)

        assert server.carrier.quic._packet_number == first_packet + 20
        assert server.carrier.stats().sent == 10
        unblock(server)
        await eventually(lambda: pushed in ends.client.told.ended)


async def test_many_datagrams_in_one_turn_all_leave_in_time(ends: Pair) -> None:
    for number in range(40):
        ends.server.carrier.send_latest(number, b"%d" % number)

    await eventually(lambda: len(ends.client.told.datagrams) == 40)


async def test_streams_carry_bytes_both_ways_and_end(ends: Pair) -> None:
    asked = ends.client.carrier.open_stream(is_bidirectional=True)
    other = ends.client.carrier.open_stream(is_bidirectional=True)
    assert asked != other
    ends.client.carrier.write(asked, b"question", is_end=True)
    await eventually(lambda: asked in ends.server.told.ended)
    assert ends.server.told.streams[asked] == b"question"

    ends.server.carrier.write(asked, b"an", is_end=False)
    ends.server.carrier.write(asked, b"swer", is_end=True)
    ends.server.carrier.write(asked, b"too late", is_end=True)
    pushed = ends.server.carrier.open_stream(is_bidirectional=False)
    ends.server.carrier.write(pushed, bytes(100_000), is_end=True)

    await eventually(lambda: {asked, pushed} <= ends.client.told.ended)
    assert ends.client.told.streams == {asked: b"answer", pushed: bytes(100_000)}
    await eventually(lambda: ends.server.carrier.backlog(pushed) == 0)


async def test_a_stream_can_be_given_up(ends: Pair) -> None:
    asked = ends.client.carrier.open_stream(is_bidirectional=True)
    ends.client.carrier.write(asked, b"question")
    await eventually(lambda: asked in ends.server.told.streams)

    ends.client.carrier.reset_stream(asked)

    await eventually(lambda: asked in ends.server.told.resets)
    ends.server.carrier.write(asked, b"nobody reads this", is_end=True)
    ends.server.carrier.reset_stream(asked)


async def test_the_peer_hears_of_a_close(ends: Pair) -> None:
    ends.client.carrier.close(0, "done")

    await eventually(lambda: ends.server.told.closed_for is not None)
    assert ends.server.told.closed_for == "done"
    ends.server.carrier.send_latest(1, b"nobody there")
    ends.server.carrier.write(1, b"nobody there")


@pytest.mark.parametrize("kind", ["plain"])
async def test_a_peer_without_datagrams_is_sent_none(kind: str) -> None:
    async with pair(kind, has_datagrams=False) as ends:
        assert ends.server.carrier.max_payload() == 0
        ends.server.carrier.send_latest(1, b"x")
        stream = ends.server.carrier.open_stream(is_bidirectional=False)
        ends.server.carrier.write(stream, b"still here", is_end=True)

        await eventually(lambda: stream in ends.client.told.ended)
        assert ends.client.told.datagrams == []
