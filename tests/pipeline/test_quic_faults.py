"""A fault in one reader of a session stays there, through whichever entrance it comes."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from headstart.client.session_wire import Request, encode_message
from headstart.cluster.stream import Stream
from headstart.cluster.tasks import Tasks
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import AckOutcome, CarrierKind, Fallback
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.log_reader import LogReader
from headstart.pipeline.quic_session import Session
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.wire import Ack, encode_ack
from tests.support.carriers import MemoryCarrier, Told
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

HEADER = StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "tiny", 1_700_000_000)
ASKED = Request("GET", "/v1/streams/a")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def fail(*_args: object) -> None:
    raise RuntimeError("a bug of ours")


def new_session(app: object = None, max_body_bytes: int = 1 << 16) -> tuple[Session, Told]:
    told = Told()
    theirs, ours = MemoryCarrier(told, 0), MemoryCarrier(Told(), 1)
    ours.peer, theirs.peer = theirs, ours
    meter = Metrics(["fake"], "0").transport
    session = Session(ours, CarrierKind.PLAIN, app, QuicSettings(), max_body_bytes, meter, Tasks())
    return session, told


def stream() -> Stream:
    stream = Stream("a", 1 << 20)
    stream.append(HEADER)
    stream.append(Frame(0, Channel.CONTENT, "word", (1,), 1))
    return stream


def carry(session: Session, of: Stream, number: int) -> None:
    session._carry(Request("GET", "/v1/streams/a", number=number), of, 0, None)


@pytest.mark.parametrize("entrance", ["datagram", "ready", "progressed", "broken"])
async def test_the_other_readers_go_on(entrance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = new_session()
    answer = stream()
    for number in range(2):
        carry(session, answer, number)
    first, second = session._readers[0], session._readers[1]
    monkeypatch.setattr(first._machine, "feed", fail)
    monkeypatch.setattr(first, "_fall_back", fail)
    first._pipes.append(SimpleNamespace(pump=fail, close=lambda: None, is_written=True))  # type: ignore[arg-type]

    if entrance == "datagram":
        session.datagram(encode_ack(Ack(0, 0, 1, 1, 0, 0, None, False, False)))
    elif entrance == "broken":
        session.broken("silence")
    else:
        getattr(session, entrance)()

    assert list(session._readers.values()) == [second]
    session.closed("over")


async def test_a_reader_by_datagrams_has_to_get_on() -> None:
    session, _ = new_session()
    answer = stream()
    carry(session, answer, 0)
    now = time.monotonic()
    # A sign of life that confirms nothing does not count.
    session.datagram(encode_ack(Ack(0, 0, 1, 1, 0, 0, None, False, False)))
    session.expire(now + 59, 60)
    assert list(session._readers) == [0]
    session.expire(now + 62, 60)

    assert session._readers == {}
    (end,) = session._unsaid
    assert not end.is_whole
    assert end.error is not None
    assert end.error["type"] == "RequestTimeoutError"
    session.closed("over")


async def test_a_reader_for_whom_nothing_waits_may_take_its_time() -> None:
    session, _ = new_session()
    answer = stream()
    carry(session, answer, 0)
    now = time.monotonic()
    session.datagram(encode_ack(Ack(0, answer.log.end, 1, 1, 0, 0, None, False, False)))
    session.expire(now + 500, 60)
    session.expire(now + 1000, 60)
    answer.append(Frame(0, Channel.CONTENT, "word", (1,), 1))
    session.expire(now + 1059, 60)
    assert list(session._readers) == [0]
    session.expire(now + 1062, 60)
    assert session._readers == {}
    session.closed("over")


async def test_a_reader_by_a_stream_has_to_get_on(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = new_session()
    carry(session, stream(), 0)
    session.broken("silence")
    now = time.monotonic()
    for waiting, moment, is_left in (
        (50, 0, True),
        (40, 55, True),
        (40, 110, True),
        (40, 116, False),
    ):
        monkeypatch.setattr(session.carrier, "backlog", lambda _, waiting=waiting: waiting)
        session.expire(now + moment, 60)
        assert bool(session._readers) is is_left
    session.closed("over")


async def test_a_client_that_stops_a_stream_of_a_log_reads_it_no_longer() -> None:
    session, told = new_session()
    answer = stream()
    for number in range(2):
        carry(session, answer, number)
    session._readers[1].broken(Fallback.SILENCE)
    await asyncio.sleep(0)
    (stream_id,) = told.streams
    session.stream_reset(stream_id)

    assert list(session._readers) == [0]
    (end,) = session._unsaid
    assert (end.number, end.is_whole) == (1, False)
    session.closed("over")


async def test_a_reader_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = new_session()
    answer = stream()
    monkeypatch.setattr(LogReader, "appended", fail)
    with pytest.raises(RuntimeError):
        carry(session, answer, 0)

    assert session._readers == {}
    assert answer._listeners == []
    session.closed("over")


class Waiting:
    """An app that answers nobody, and shows no interest in who has left."""

    def __init__(self) -> None:
        self.num_asked = 0

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        self.num_asked += 1
        await asyncio.Event().wait()


POST = encode_message(Request("POST", "/v1/chat/completions"))


async def test_a_request_without_room_for_its_body_is_not_carried_out() -> None:
    app = Waiting()
    session, told = new_session(app, max_body_bytes=100)
    for number in range(4):
        session.stream_data(4 * number, POST + bytes(100), False)
    session.stream_data(16, POST + bytes(1), True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert app.num_asked == 4
    assert told.resets == {16}
    session.stream_data(0, b"and more", False)
    await asyncio.sleep(0)
    assert told.resets == {0, 16}
    session.closed("over")


async def test_requests_that_were_reset_and_still_run_take_room() -> None:
    app = Waiting()
    session, _ = new_session(app)
    for number in range(200):
        session.stream_data(4 * number, POST, True)
        await asyncio.sleep(0)
        session.stream_reset(4 * number)

    assert app.num_asked == 64
    session.closed("over")


async def test_a_stop_finds_room_where_nothing_else_does() -> None:
    app = Waiting()
    session, told = new_session(app)
    for number in range(70):
        session.stream_data(4 * number, POST, True)
    stop = encode_message(Request("DELETE", "/v1/streams/a"))
    for number in range(100, 150):
        session.stream_data(4 * number, stop, True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert app.num_asked == 64 + 8
    assert told.resets == {4 * number for number in (*range(64, 70), *range(108, 150))}
    session.closed("over")


class Full(MemoryCarrier):
    """Has a peer that confirms nothing, and takes no datagrams unless it is told to."""

    written = 0
    payload = 0

    def max_payload(self) -> int:
        return self.payload

    def write(self, stream_id: int, data: bytes, *, is_end: bool = False) -> None:
        self.written += len(data)

    def backlog(self, stream_id: int) -> int:
        return self.written


def long_answer() -> Stream:
    answer = stream()
    for number in range(2000):
        answer.append(Frame(0, Channel.CONTENT, "word " * 20, (number,), number))
    return answer


def full_carrier(payload: int) -> "Full":
    carrier = Full(Told(), 1)
    carrier.peer = MemoryCarrier(Told(), 0)
    carrier.payload = payload
    return carrier


@pytest.mark.parametrize("payload", [0, 1000])
async def test_what_waits_for_room_is_not_said_to_be_sent(payload: int) -> None:
    """With datagrams it is the stretch that none can carry, and that a stream catches up on."""
    answer = long_answer()
    num_tokens: list[int] = []
    pace = SimpleNamespace(wrote=lambda count, now: num_tokens.append(count), left=lambda why: None)
    meter = Metrics(["fake"], "0").transport
    carrier = full_carrier(payload)
    reader = LogReader(
        1,
        answer,
        0,
        carrier,
        QuicSettings(),
        meter,
        fail,
        lambda _number: None,
        pace,  # type: ignore[arg-type]
    )
    reader.start()

    assert carrier.written < answer.log.end / 2
    share = sum(num_tokens) / 2001
    assert share == pytest.approx(carrier.written / answer.log.end, rel=0.05)

    for _ in range(10):
        carrier.written = 0
        reader.pump()
    assert sum(num_tokens) == 2001
    reader.close()


async def test_nobody_has_what_a_stream_was_not_given_yet() -> None:
    answer = long_answer()
    meter = Metrics(["fake"], "0").transport
    reader = LogReader(
        1, answer, 0, full_carrier(1000), QuicSettings(), meter, fail, lambda _number: None
    )
    reader.start()
    forged = Ack(1, answer.log.end, 1, 1, 0, 0, None, False, False)

    assert reader.acked(forged) is AckOutcome.REFUSED

    (pipe,) = reader._pipes
    assert 0 < pipe.cursor < answer.log.end
    assert reader.acked(Ack(1, pipe.cursor, 1, 1)) is not AckOutcome.REFUSED
    reader.close()


async def test_a_client_that_takes_nothing_of_a_body_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_asked, is_left = asyncio.Event(), asyncio.Event()

    async def app(scope: object, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        is_asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        is_left.set()

    session, _ = new_session(app)
    session.stream_data(0, encode_message(Request("GET", "/v1/models")), is_end=True)
    await soon(is_asked.wait())
    now = time.monotonic()
    for waiting, moment, goes_on in (
        (0, 0, True),
        (50, 100, True),
        (40, 155, True),
        (40, 210, True),
        (40, 216, False),
    ):
        monkeypatch.setattr(session.carrier, "backlog", lambda _, waiting=waiting: waiting)
        session.expire(now + moment, 60)
        assert bool(session._exchanges) is goes_on
    await soon(is_left.wait())
    session.closed("over")
