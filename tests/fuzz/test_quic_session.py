# Invariant: whatever a client sends, on whichever stream and in whichever pieces, the session takes
# it without raising, is closed or goes on, and a client that asks properly meanwhile is answered.
"""Random and damaged messages and datagrams to a gateway's session."""

import asyncio
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.client.session_wire import (
    Drop,
    End,
    Hello,
    MessageReader,
    Request,
    encode_message,
)
from headstart.cluster.stream import Stream
from headstart.cluster.tasks import Tasks
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import CarrierKind
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.log_response import CARRY
from headstart.pipeline.quic_session import Session
from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.mirror import StreamEnd
from headstart.stages.wire import Ack, encode_ack
from tests.support.carriers import MemoryCarrier, Told

METRICS = Metrics(["fake"], "0")
HEADER = StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "tiny", 1_700_000_000)

small = st.integers(0, 6) | st.integers(0, 1 << 62)
messages = st.one_of(
    st.builds(Hello, version=st.integers(0, 2)),
    st.builds(
        Request,
        method=st.sampled_from(["GET", "POST", ""]) | st.text(),
        path=st.sampled_from(["/v1/streams/a", "/v1/chat/completions"]) | st.text(),
        headers=st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple),
        number=st.none() | st.integers(-3, 5) | small,
    ),
    st.builds(Drop, number=small),
    st.builds(End, number=small, cursor=small),
).map(encode_message)
damaged = st.tuples(messages, st.integers(0, 200), st.binary(max_size=3)).map(
    lambda how: how[0][: how[1]] + how[2] + how[0][how[1] :]
)
said = messages | damaged | st.binary(max_size=80)
acks = st.builds(
    Ack,
    stream=small,
    have=small,
    newest=small,
    num_received=small,
    received_us=small,
    held_us=small,
    rendered_us=st.none() | small,
    has_gap=st.booleans(),
    is_complete=st.booleans(),
).map(encode_ack)
steps = st.one_of(
    st.tuples(st.just("stream"), st.integers(0, 4).map(lambda n: 4 * n), said, st.booleans()),
    st.tuples(st.just("datagram"), acks | st.binary(max_size=40)),
    st.tuples(st.just("reset"), st.integers(0, 4).map(lambda n: 4 * n)),
    st.tuples(st.just("turn")),
)


def answer() -> Stream:
    stream = Stream("a", 1 << 20)
    stream.append(HEADER)
    for number in range(5):
        stream.append(Frame(0, Channel.CONTENT, f" word{number}", (number,), number))
    return stream


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Carries the same answer to whoever asks, or says that it has read the body."""
    stream = scope["state"].setdefault("stream", answer())
    if (carry := scope["extensions"].get(CARRY)) is not None:
        carry(stream, 0, None)
    else:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"read"})
    stream.finish(StreamEnd(1, 0, 5, ("stop",)))


def session_with(tasks: Tasks) -> tuple[Session, Told]:
    told = Told()
    theirs = MemoryCarrier(told, 0)
    ours = MemoryCarrier(Told(), 1)
    ours.peer, theirs.peer = theirs, ours
    session = Session(
        ours, CarrierKind.PLAIN, app, QuicSettings(), 1 << 16, METRICS.transport, tasks
    )
    ours.told = session
    return session, told


class Owned(Tasks):
    """Remembers what a task raised."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(error)


async def play(history: list[tuple[Any, ...]]) -> None:
    tasks = Owned()
    session, told = session_with(tasks)
    for step in history:
        match step:
            case ("stream", stream_id, data, is_end):
                session.stream_data(stream_id, data, is_end)
            case ("datagram", data):
                session.datagram(data)
            case ("reset", stream_id):
                session.stream_reset(stream_id)
            case _:
                await asyncio.sleep(0)
    proper = encode_message(Request("GET", "/v1/models"))
    session.stream_data(1000, proper, True)
    deadline = time.monotonic() + 10
    while told.closed_for is None and b"read" not in told.streams.get(1000, b""):
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    session.closed("over")
    assert not session._readers
    await tasks.close()
    assert tasks.errors == []


@settings(max_examples=150)
@given(st.lists(steps, max_size=12))
def test_a_session_takes_anything(history: list[tuple[Any, ...]]) -> None:
    asyncio.run(play(history))


@given(st.lists(said, max_size=4), st.integers(1, 9))
def test_messages_do_not_depend_on_how_they_are_cut(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)

    def taken(pieces: list[bytes]) -> list[object]:
        reader = MessageReader()
        found: list[object] = []
        try:
            for piece in pieces:
                reader.feed(piece)
                while (message := reader.next()) is not None:
                    found.append(message)
        except ProtocolViolation:
            found.append("violation")
        return found

    assert taken([data]) == taken([data[i : i + size] for i in range(0, len(data), size)])
