"""Reads what an engine wrote into a stream's log."""

import json
import time
from typing import Any

from headstart.cluster.stream import Stream, StreamTable
from headstart.stages.retention import Retention
from headstart.stages.sse import DONE, project, split_events
from tests.support.waiting import soon

__all__ = ["body", "chunks", "events", "finished", "stream_table"]


def stream_table() -> StreamTable:
    """An empty table that forgets nothing within a test."""
    return StreamTable(Retention(ttl_s=300, max_bytes=1 << 28), 1 << 24, time.monotonic)


async def finished(stream: Stream) -> Stream:
    """Wait for the end of an answer that has no reason to fail."""
    await soon(stream.finished())
    assert stream.end is not None
    assert stream.end.failure is None
    return stream


def body(stream: Stream) -> Any:
    """The one JSON body that a stream's log holds."""
    return json.loads(b"".join(frame.payload or b"" for _, frame in stream.log.frames(0)))


def events(stream: Stream) -> bytes:
    """The server-sent events that a stream's log projects to."""
    header = stream.log.header
    assert header is not None
    assert header.is_event_stream
    return b"".join(project(header, frame) for _, frame in stream.log.frames(0))


def chunks(stream: Stream) -> list[dict[str, Any]]:
    """The JSON of a stream's events, without the mark that ends them."""
    payloads, rest = split_events(events(stream))
    assert not rest
    assert payloads[-1] == DONE
    return [json.loads(payload) for payload in payloads[:-1]]
