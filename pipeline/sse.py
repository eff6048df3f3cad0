"""Carries a token log to a reader as server-sent events, or as one plain body."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import msgspec

from headstart.cluster.stream import Stream
from headstart.pipeline.errors import error_body, from_failure
from headstart.stages.errors import Cancelled
from headstart.stages.frames import Frame, StreamHeader
from headstart.stages.sse import DONE, project
from headstart.stages.stage_clock import Mark

__all__ = ["Pace", "send_body", "send_events"]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_HEARTBEAT = b": keep-alive\n\n"


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

    Frames that are there together leave in one write. A slow reader holds back nothing but its
    own cursor: the next write takes whatever has come meanwhile.

    Args:
        after: Where to begin; the log has a header.
        heartbeat_s: Silence after which a comment keeps proxies from hanging up.
        has_ids: Whether each event carries its cursor as `id`, for `Last-Event-ID`.
        timing: Makes the object for an extra chunk before the end marker.
    """
    header = stream.log.header
    assert header is not None
    await _start(send, header.status, header.content_type, stream.id)
    cursor = after
    while True:
        try:
            async with asyncio.timeout(heartbeat_s):
                await stream.grown(cursor)
        except TimeoutError:
            await send({"type": "http.response.body", "body": _HEARTBEAT, "more_body": True})
            continue
        if stream.log.end > cursor:
            began = time.monotonic()
            cursor, body, frames = _take(stream, header, cursor, has_ids)
            if timing is not None and frames and frames[-1].payload == DONE:
                await stream.grown(cursor)  # the last marks come with the end
                stream.clock.set(Mark.SENT, time.monotonic())
                body = _with_timing(body, header, timing())
            pace.projected(len(frames), time.monotonic() - began)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            now = time.monotonic()
            stream.clock.set(Mark.SENT, now)
            pace.wrote(sum(len(frame.tokens) for frame in frames), now)
        elif stream.end is not None:
            break
    tail = b""
    if (failure := stream.end.failure) is not None:
        tail = b"data: %b\n\ndata: %b\n\n" % (error_body(from_failure(failure)), DONE)
    await send({"type": "http.response.body", "body": tail, "more_body": False})


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
    if end.failure is not None:
        raise from_failure(end.failure)
    if header is None:
        raise Cancelled("the answer was cancelled before it was complete")
    body = b"".join(frame.payload or b"" for _, frame in stream.log.frames(0))
    if timing is not None and header.status == 200:
        body = _body_with_timing(body, timing())
    await _start(send, header.status, header.content_type, stream.id, len(body))
    await send({"type": "http.response.body", "body": body, "more_body": False})
    now = time.monotonic()
    stream.clock.set(Mark.SENT, now)
    pace.wrote(0, now)


def _take(
    stream: Stream, header: StreamHeader, cursor: int, has_ids: bool
) -> tuple[int, bytes, list[Frame]]:
    frames: list[Frame] = []
    events: list[bytes] = []
    for after, frame in stream.log.frames(cursor):
        frames.append(frame)
        cursor = after
        if has_ids:
            events.append(b"id: %d\n" % after)
        events.append(project(header, frame))
    return cursor, b"".join(events), frames


def _with_timing(body: bytes, header: StreamHeader, timing: dict[str, Any]) -> bytes:
    chunk: dict[str, Any] = {
        "id": header.response_id,
        "object": "chat.completion.chunk" if header.api == "chat" else "text_completion",
        "created": header.created,
        "model": header.model,
        "choices": [],
        "headstart": {"timing": timing},
    }
    marker = b"data: %b\n\n" % DONE
    event = b"data: %b\n\n" % msgspec.json.encode(chunk)
    return body.removesuffix(marker) + event + marker


def _body_with_timing(body: bytes, timing: dict[str, Any]) -> bytes:
    tree = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    tree["headstart"] = msgspec.Raw(msgspec.json.encode({"timing": timing}))
    return msgspec.json.encode(tree)


async def _start(
    send: Send, status: int, content_type: str, stream_id: str, length: int | None = None
) -> None:
    headers = [
        (b"content-type", content_type.encode("latin-1")),
        (b"x-headstart-stream", stream_id.encode()),
    ]
    if length is None:
        headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    else:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
