"""What wakes a reader over QUIC."""

from typing import Any

import pytest

from headstart.cluster.stream import Stream
from headstart.configs.serving import QuicSettings
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.log_reader import LogReader
from headstart.stages.frames import Channel, Frame, StreamHeader
from tests.support.carriers import MemoryCarrier, Told
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

NUM_FRAMES = 10


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The gateway's, whose timers count milliseconds and fire early."""
    return "asyncio", {"use_uvloop": True}


async def test_what_waits_for_its_turn_wakes_its_reader_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    num_woken = 0
    woken = LogReader._woken

    def count(reader: LogReader) -> None:
        nonlocal num_woken
        num_woken += 1
        woken(reader)

    monkeypatch.setattr(LogReader, "_woken", count)
    answer = Stream("a", 1 << 20)
    answer.append(StreamHeader(200, "text/event-stream", "chat"))
    told = Told()
    carrier = MemoryCarrier(Told(), 1)
    carrier.peer = MemoryCarrier(told, 0)
    meter = Metrics(["fake"], "0").transport
    reader = LogReader(
        1, answer, 0, carrier, QuicSettings(), meter, lambda _end: None, lambda _number: None
    )
    reader.start()
    for number in range(NUM_FRAMES):
        num_sent = len(told.datagrams)
        answer.append(Frame(0, Channel.CONTENT, "word", (number,), number))
        await eventually(lambda num_sent=num_sent: len(told.datagrams) > num_sent)  # type: ignore[misc]
    reader.close()

    assert 1 <= num_woken <= 2 * NUM_FRAMES
