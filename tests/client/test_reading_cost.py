"""Reading an answer costs as much as the answer is long, however many pieces it comes in."""

import asyncio
from typing import Any

import pytest

from headstart.client.reading import Reading
from headstart.client.records import RecordProjector
from headstart.client.session_wire import Answer
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.frames import Channel, Frame, StreamHeader, encode
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

HEADER = encode(StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "tiny", 1))


class Counting(bytearray):
    """Counts the bytes that are copied out of it."""

    num_copied = 0

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        if isinstance(index, slice):
            self.num_copied += len(found)
        return found

    def __bytes__(self) -> bytes:
        self.num_copied += len(self)
        return bytes(memoryview(self))


def reading_of() -> tuple[Reading, Counting]:
    reading = Reading(1, b"", lambda number, data: None)
    receiver = reading._receiver
    assert isinstance(receiver, DatagramReceiver)
    log = receiver._log = Counting()
    reading.began(Answer(200, is_carried=True))
    return reading, log


async def shown(reading: Reading, seen: bytearray) -> None:
    projector = RecordProjector()
    async for records in reading.records():
        seen += records
        projector.feed(records)


async def test_a_long_answer_is_copied_a_few_times_and_no_more() -> None:
    reading, log = reading_of()
    seen = bytearray()
    showing = asyncio.ensure_future(shown(reading, seen))
    for number in range(2000):
        record = encode(Frame(0, Channel.CONTENT, " word", (number,), number))
        reading.caught_up(len(log), record if number else HEADER)
        await eventually(lambda: len(seen) == len(log))
    reading.close(None)
    await showing

    assert seen == log
    assert log.num_copied <= 4 * len(log)


async def test_a_long_record_in_many_pieces_is_not_looked_through_for_each() -> None:
    reading, log = reading_of()
    record = encode(Frame(0, Channel.CONTENT, "word " * 40_000, (1,), 1))
    reading.caught_up(0, HEADER)
    for first in range(0, len(record), 1000):
        reading.caught_up(len(log), record[first : first + 1000])

    assert reading.log == HEADER + record
    assert log.num_copied <= 4 * len(log)
    reading.close(None)
