"""Whoever listens to a stream hears of everything; a table bounds what it keeps in memory."""

import asyncio
import gc
import tracemalloc

import pytest
from structlog.testing import capture_logs

from headstart.cluster.stream import Stream, StreamTable
from headstart.pipeline.access import new_stream_id
from headstart.stages.frames import Channel, Frame, StreamHeader, encode
from headstart.stages.mirror import StreamEnd
from headstart.stages.retention import KEPT_BYTES, Retention
from headstart.stages.stage_clock import Mark


class Listener:
    """Notes what it hears; leaves when it hears `leaves_at`."""

    def __init__(self, stream: Stream, leaves_at: str = "") -> None:
        self._stream = stream
        self._leaves_at = leaves_at
        self.heard: list[str] = []
        stream.listen(self)

    def appended(self) -> None:
        self._note("appended")

    def marked(self, mark: Mark, at: float) -> None:
        self._note("marked")

    def ended(self, end: StreamEnd) -> None:
        self._note("ended")

    def _note(self, event: str) -> None:
        self.heard.append(event)
        if event == self._leaves_at:
            self._stream.unlisten(self)


@pytest.mark.parametrize("leaver", [0, 1, 2])
@pytest.mark.parametrize("event", ["appended", "marked", "ended"])
def test_a_listener_that_leaves_takes_no_word_from_the_next(leaver: int, event: str) -> None:
    stream = Stream("s", 1 << 20)
    listeners = [Listener(stream, event if index == leaver else "") for index in range(3)]

    stream.append(StreamHeader(200, "text/event-stream"))
    stream.mark(Mark.FRAMED, 1.0)
    stream.finish(StreamEnd())

    everything = ["appended", "marked", "ended"]
    for index, listener in enumerate(listeners):
        expected = everything if index != leaver else everything[: everything.index(event) + 1]
        assert listener.heard == expected


REFUSED = [StreamHeader(400, "application/json"), Frame(0, Channel.EVENT, "", (), 1, b"{}")]
TOLD = [
    StreamHeader(200, "text/event-stream; charset=utf-8", "chat", "chatcmpl-1", "model", 1),
    *(Frame(0, Channel.CONTENT, "word ", (number,), number) for number in range(20)),
]


@pytest.mark.parametrize("records", [[], REFUSED, TOLD], ids=["empty", "refused", "told"])
def test_memory_of_kept_streams_is_counted(records: list[StreamHeader | Frame]) -> None:
    streams = StreamTable(Retention(300.0, 1 << 30), 1 << 20, lambda: 0.0)
    log = b"".join(map(encode, records))
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(1000):
            stream = streams.create(new_stream_id())
            for mark in Mark:
                stream.mark(mark, float(mark) / 3)
            stream.extend(log)
            stream.finish(StreamEnd(7, 0, 20, ("stop",)))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken < streams.log_bytes < 2 * taken


def test_streams_of_few_bytes_make_room_too() -> None:
    streams = StreamTable(Retention(300.0, 10 * KEPT_BYTES), 1 << 20, lambda: 0.0)
    for number in range(20):
        streams.create(f"{number}").finish(StreamEnd())

    assert len(streams) == 10


@pytest.mark.anyio
async def test_whoever_waits_is_told_of_growth_of_the_end_and_of_lost_patience() -> None:
    stream = Stream("s", 1 << 20)
    assert not await stream.grown(0, patience_s=0.0)
    told: list[bool] = []

    async def wait() -> None:
        told.append(await stream.grown(0, patience_s=60.0))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(wait())
        await asyncio.sleep(0)
        stream.mark(Mark.TOKENISED, 1.0)  # wakes, and is not what was waited for
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not told
        stream.append(StreamHeader(200, "text/event-stream"))
    assert told == [True]
    stream.finish(StreamEnd())
    assert await stream.grown(stream.log.end, patience_s=0.0)


def test_a_fault_in_what_is_called_at_the_end_keeps_nobody_else_from_hearing_of_it() -> None:
    stream, called = Stream("s", 1 << 20), list[str]()

    def broken() -> None:
        called.append("broken")
        raise RuntimeError("a bug")

    stream.on_end(broken)
    stream.on_end(lambda: called.append("next"))
    with capture_logs() as logged:
        stream.finish(StreamEnd())
        stream.on_end(broken)

    assert called == ["broken", "next", "broken"]
    assert [line["event"] for line in logged] == ["end_callback_failed"] * 2
