"""Carries a token log to a reader as server-sent events, or as one plain body."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

import msgspec

from headstart.cluster.stream import Stream
from headstart.pipeline.errors import error_body
from headstart.stages.errors import EngineFailed, HeadstartError
from headstart.stages.frames import Frame, StreamHeader
from headstart.stages.mirror import StreamEnd
from headstart.stages.sse import DONE, is_last, project

__all__ = ["Pace", "events_past", "send_body", "send_events", "start"]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_HEARTBEAT = b": keep-alive\n\n"
_POLL_EVENTS = 4096
"""About when a poll's body ends; what is left comes with the next."""
_WRITE_BYTES = 16 * 1024
"""Most of a log that goes into one write: about 3 ms of work, which the others wait for."""


class Pace(Protocol):
    """Told of each write of an answer's frames, for whoever measures."""

    def wrote(self, num_tokens: int, at: float) -> None:
        """Frames holding `num_tokens` were handed to the connection at `at` seconds."""

    def projected(self, num_frames: int, seconds: float) -> None:
        """Turning `num_frames` frames into events took `seconds`."""


async def send_events(
    stream: Stream,
    send: Send,
    *,
    after: int,
    heartbeat_s: float,
    pace: Pace,
    has_ids: bool,
    timing: Callable[[], dict[str, Any]] | None = None,
) -> None:
    """Write a log from a cursor on, until the stream ends.

    Frames that are there together leave in one write, unless they are many. A slow reader holds
    back nothing but its own cursor: the next write takes what has come meanwhile.

    Args:
        after: Where to begin.
        heartbeat_s: Silence after which a comment keeps proxies from hanging up.
        has_ids: Whether each event carries its cursor as `id`, for `Last-Event-ID`.
        timing: Makes the object for an extra chunk before the end marker, or for an extra field of
            the last event where that holds the whole response.
    """
    header = stream.log.header
    if header is None:
        await start(send, 200, "text/event-stream; charset=utf-8", stream.id)
    else:
        await start(send, header.status, header.content_type, stream.id)
    cursor = after
    while True:
        if not await stream.grown(cursor, heartbeat_s):
            await send({"type": "http.response.body", "body": _HEARTBEAT, "more_body": True})
            continue
        cursor = cursor or stream.log.header_end
        if stream.log.end > cursor:
            began = time.monotonic()
            cursor, events, frames = _take(stream, cursor, has_ids)
            pace.projected(len(frames), time.monotonic() - began)
            if timing is not None and is_last(_header(stream), frames[-1]):
                await stream.finished()  # the last marks come with the end
                pace.wrote(0, time.monotonic())
                events[-1] = _with_timing(_header(stream), events[-1], timing())
            await send({"type": "http.response.body", "body": b"".join(events), "more_body": True})
            pace.wrote(sum(len(frame.tokens) for frame in frames), time.monotonic())
            if stream.log.end > cursor:
                await asyncio.sleep(0)  # a write need not wait, and others have work too
        elif stream.end is not None:
            break
    await send(
        {"type": "http.response.body", "body": _tail(stream, stream.end), "more_body": False}
    )


async def events_past(stream: Stream, cursor: int, wait_s: float) -> bytes:
    """Return the events past a cursor, for a reader that asks again and again.

    Args:
        stream: An event stream.
        wait_s: How long to wait for the first; then the body is empty.
    """
    await stream.grown(cursor, wait_s)
    body: list[bytes] = []
    cursor = cursor or stream.log.header_end
    while stream.log.end > cursor and len(body) < _POLL_EVENTS:
        cursor, events, _ = _take(stream, cursor, has_ids=True)
        body += events
    if stream.log.end == cursor and stream.end is not None:
        body.append(_tail(stream, stream.end))
    return b"".join(body)


async def send_body(
    stream: Stream,
    send: Send,
    *,
    pace: Pace,
    timing: Callable[[], dict[str, Any]] | None = None,
) -> None:
    """Write a finished stream that is one plain body.

    Raises:
        EngineError: The stream ended without it.
        Cancelled: Somebody stopped the answer.
    """
    header, end = stream.log.header, stream.end
    assert end is not None
    if (error := end.to_error()) is not None:
        raise error
    if header is None:
        raise EngineFailed("the engine ended the answer before it began")
    body = b"".join(frame.payload or b"" for _, frame in stream.log.frames(0))
    is_json = header.content_type.partition(";")[0] == "application/json"
    if timing is not None and header.status == 200 and is_json:
        body = _body_with_timing(body, timing())
    await start(
        send, header.status, header.content_type, stream.id, len(body), headers=header.headers
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})
    pace.wrote(0, time.monotonic())


def _tail(stream: Stream, end: StreamEnd) -> bytes:
    """Events that tell a reader of an answer that is not whole."""
    error = end.to_error()
    return b"" if error is None else _error_events(stream, error)


def _take(stream: Stream, cursor: int, has_ids: bool) -> tuple[int, list[bytes], list[Frame]]:
    """Project the next `_WRITE_BYTES`: the cursor after them, one event a frame, the frames."""
    header = _header(stream)
    frames: list[Frame] = []
    events: list[bytes] = []
    for after, frame in stream.log.frames(cursor, _WRITE_BYTES):
        frames.append(frame)
        cursor = after
        event = project(header, frame)
        events.append(b"id: %d\n%b" % (after, event) if has_ids else event)
    return cursor, events, frames


def _header(stream: Stream) -> StreamHeader:
    header = stream.log.header
    assert header is not None
    return header


def _with_timing(header: StreamHeader, last: bytes, timing: dict[str, Any]) -> bytes:
    """Say in or before the last event where the time went."""
    said = {"timing": timing}
    if header.api == "responses":
        # A further event would need a number in the sequence, and the last one holds everything.
        return b'%b,"headstart":%b}\n\n' % (last[: last.rindex(b"}")], msgspec.json.encode(said))
    chunk: dict[str, Any] = {
        "id": header.response_id,
        "object": "chat.completion.chunk" if header.api == "chat" else "text_completion",
        "created": header.created,
        "model": header.model,
        "choices": [],
        "headstart": said,
    }
    return b"data: %b\n\n%b" % (msgspec.json.encode(chunk), last)


def _error_events(stream: Stream, error: HeadstartError) -> bytes:
    header = stream.log.header
    if header is None or header.api != "responses":
        return b"data: %b\n\ndata: %b\n\n" % (error_body(error), DONE)
    event: dict[str, Any] = {
        "code": error.kind,
        # Not OpenAI's, but what makes its clients raise instead of handing on one more event.
        **msgspec.json.decode(error_body(error), type=dict[str, msgspec.Raw]),
        "message": error.message,
        "param": error.param,
        "sequence_number": stream.log.num_frames,
        "type": "error",
    }
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(event)


def _body_with_timing(body: bytes, timing: dict[str, Any]) -> bytes:
    tree = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    tree["headstart"] = msgspec.Raw(msgspec.json.encode({"timing": timing}))
    return msgspec.json.encode(tree)


async def start(
    send: Send,
    status: int,
    content_type: str,
    stream_id: str,
    length: int | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> None:
    """Write the head of an answer; without a length its body is a stream of events."""
    head = [
        (b"content-type", content_type.encode("latin-1")),
        (b"x-headstart-stream", stream_id.encode()),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers),
    ]
    if length is None:
        head += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    else:
        head.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": head})
