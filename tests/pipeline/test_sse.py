"""A log on its way to one reader, without a server."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from headstart.cluster.stream import Stream
from headstart.pipeline.sse import send_events
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.mirror import StreamEnd
from headstart.stages.sse import DONE
from tests.support.events import events
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

HEADER = StreamHeader(200, "text/event-stream", "completion", "cmpl-1", "fake", 1)
END = Frame(0, Channel.EVENT, "", (), 0, DONE)


class Reader:
    """Takes what is sent, and notes its pace."""

    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []
        self.num_tokens: list[int] = []

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)

    def wrote(self, num_tokens: int, at: float) -> None:
        self.num_tokens.append(num_tokens)

    def projected(self, num_frames: int, seconds: float) -> None:
        assert num_frames > 0
        assert seconds >= 0

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    def reading(self, stream: Stream, after: int = 0) -> asyncio.Task[None]:
        """Begin to carry a log to this reader."""
        carrying = send_events(
            stream, self.send, after=after, heartbeat_s=60, pace=self, has_ids=True
        )
        return asyncio.ensure_future(carrying)


def token(text: str = " word") -> Frame:
    return Frame(0, Channel.CONTENT, text, (1,), 0)


@pytest.fixture
def stream() -> Stream:
    """A log that holds its header."""
    stream = Stream("stream", 1 << 24)
    stream.append(HEADER)
    return stream


async def test_header_alone_is_waited_with(stream: Stream) -> None:
    reader = Reader()
    reading = reader.reading(stream)
    await eventually(lambda: len(reader.messages) == 1)

    stream.append(token())
    stream.append(END)
    stream.finish(StreamEnd())

    await soon(reading)
    assert len(events(reader.body)) == 2
    assert [message.get("body") for message in reader.messages][-1] == b""


async def test_frames_that_are_there_together_leave_together(stream: Stream) -> None:
    for _ in range(3):
        stream.append(token())
    reader = Reader()
    reading = reader.reading(stream)
    await eventually(lambda: reader.num_tokens == [3])

    stream.append(token())
    await eventually(lambda: reader.num_tokens == [3, 1])
    stream.finish(StreamEnd())
    await soon(reading)


async def test_long_log_leaves_in_pieces_and_whole(stream: Stream) -> None:
    texts = [f" {number}" + "x" * (number % 50) for number in range(5000)] + ["y" * 100_000, "z"]
    for text in texts:
        stream.append(token(text))
    stream.finish(StreamEnd())
    reader = Reader()

    await soon(reader.reading(stream))

    assert len(reader.messages) > 10
    found = events(reader.body)
    assert len(found) == len(texts)
    assert sum(reader.num_tokens) == len(texts)
    cursors = [int(event.id or 0) for event in found]
    assert cursors == [cursor for cursor, _ in stream.log.frames(0)]
    rest = Reader()
    await soon(rest.reading(stream, cursors[1000]))
    assert rest.body == reader.body[found[1000].stop :]
