"""A gateway that says nonsense gets one clear error out of the client's session, and no silence."""

import asyncio

import pytest

from headstart.client.quic_session import QuicSession
from headstart.client.reading import Reading
from headstart.client.session_wire import (
    Answer,
    End,
    Hello,
    MessageReader,
    Request,
    encode_message,
)
from headstart.stages.frames import StreamHeader, encode
from headstart.stages.wire import encode_slice, encode_snapshot
from tests.support.carriers import MemoryCarrier, Told
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

KEY = (("authorization", "Bearer of-mine"),)


class Gateway:
    """The other end of a session, which says what it is told to say."""

    def __init__(self) -> None:
        self.session = QuicSession()
        self.told = Told()
        ours, self.carrier = MemoryCarrier(self.session, 0), MemoryCarrier(self.told, 1)
        ours.peer, self.carrier.peer = self.carrier, ours
        self.session.began(ours)

    async def asked(self) -> tuple[asyncio.Task[Reading], int]:
        """Have the client ask, and return its wait and its stream."""
        asking = asyncio.ensure_future(self.session.ask("POST", "/v1/completions", KEY))
        await eventually(lambda: bool(self.told.ended))
        return asking, self.told.ended.pop()

    async def carries(self) -> Reading:
        """Have the client read a log."""
        asking, stream = await self.asked()
        self.carrier.write(stream, encode_message(Answer(200, is_carried=True)), is_end=True)
        return await soon(asking)


@pytest.mark.parametrize("status", [200, 429])
async def test_what_nobody_waits_for_is_stopped_once_it_has_a_name(status: int) -> None:
    gateway = Gateway()
    asking, stream = await gateway.asked()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    is_made = status == 200
    name = (("x-headstart-stream", "an-answer"),) if is_made else ()
    head = Answer(status, name, is_carried=is_made)
    gateway.carrier.write(stream, encode_message(head), is_end=True)
    gateway.carrier.write(gateway.session._control, encode_message(Hello(max_streams=7)))
    await eventually(lambda: gateway.session.greeting is not None)
    await eventually(lambda: len(gateway.told.ended) == is_made)

    for asked in gateway.told.ended:
        messages = MessageReader()
        messages.feed(gateway.told.streams[asked])
        stop = messages.next()
        assert isinstance(stop, Request)
        assert (stop.method, stop.path, stop.headers) == (
            *("DELETE", "/v1/streams/an-answer"),
            (("authorization", "Bearer of-mine"),),
        )
    assert gateway.session.closed_for is None


@pytest.mark.parametrize("said", [b"", b"\x7f", encode_message(Answer(200))[:-1]])
async def test_a_stream_that_ends_before_its_head_is_an_error(said: bytes) -> None:
    gateway = Gateway()
    asking, stream = await gateway.asked()
    gateway.carrier.write(stream, said, is_end=True)

    with pytest.raises(ConnectionError, match="ended before its head"):
        await soon(asking)


async def test_a_request_that_is_given_up_says_so() -> None:
    gateway = Gateway()
    asking, stream = await gateway.asked()
    gateway.carrier.reset_stream(stream)

    with pytest.raises(ConnectionError, match="the server gave up"):
        await soon(asking)
    assert gateway.session.closed_for is None


async def test_records_do_not_wait_for_the_head() -> None:
    """Its packet may be lost, and only an answer that is carried has records."""
    gateway = Gateway()
    asking, stream = await gateway.asked()
    log = encode(StreamHeader(200, "text/event-stream"))
    gateway.carrier.send_latest(1, encode_snapshot(1, 1, [(0, 0, encode_slice(log))]))

    reading = await soon(asking)
    assert reading.answer is None
    assert await soon(anext(reading.records())) == log

    head = Answer(200, (("x-headstart-stream", "a"),), is_carried=True)
    gateway.carrier.write(stream, encode_message(head), is_end=True)
    await eventually(lambda: reading.answer is not None)
    assert reading.stream_id == "a"


@pytest.mark.parametrize("digest", ["no", "0", "00" * 7, "00" * 9, "\u0660" * 16])
async def test_an_end_whose_digest_is_none_ends_the_session(digest: str) -> None:
    gateway = Gateway()
    reading = await gateway.carries()
    gateway.carrier.write(0, encode_message(End(reading.number, 100, digest)))

    await soon(reading.finished())
    assert reading.error is not None
    assert "digest" in reading.error["message"]
    assert "digest" in (gateway.session.closed_for or "")


async def test_a_stop_is_answered_with_a_body_and_nothing_else() -> None:
    gateway = Gateway()
    stopping = asyncio.ensure_future(gateway.session.stop("a"))
    await eventually(lambda: bool(gateway.told.ended))
    (stream,) = gateway.told.ended
    gateway.carrier.write(stream, encode_message(Answer(200, is_carried=True)), is_end=True)

    with pytest.raises(ConnectionError, match="asked for as a body"):
        await soon(stopping)


async def test_a_session_that_ends_ends_the_wait_for_a_stop() -> None:
    gateway = Gateway()
    stopping = asyncio.ensure_future(gateway.session.stop("a"))
    await eventually(lambda: bool(gateway.told.ended))
    gateway.session.close()

    with pytest.raises(ConnectionError, match="closed"):
        await soon(stopping)
