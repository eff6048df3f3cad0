"""The response that carries a token log to one reader and notices when the reader hangs up."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from headstart.cluster.stream import Stream
from headstart.monitoring.labels import Outcome
from headstart.pipeline.request_pace import JoinedPace, RequestPace
from headstart.pipeline.sse import send_body, send_events, start
from headstart.stages.errors import HeadstartError
from headstart.stages.stage_clock import Mark

__all__ = ["CARRY", "LogResponse"]

CARRY = "headstart.carry"
"""ASGI extension of a server that carries logs itself: `carry(stream, after, pace)`, at once."""
_NO_BODY = "application/vnd.headstart.log"


class _Unmeasured:
    """Pace of a reader that resumes: the request was measured when it was first answered."""

    def wrote(self, num_tokens: int, at: float) -> None:
        pass

    def projected(self, num_frames: int, seconds: float) -> None:
        pass


class LogResponse(Response):
    """Carries a stream's log to one reader.

    Args:
        stream: What to carry.
        after: Cursor to begin at.
        heartbeat_s: Silence after which a comment is sent.
        has_ids: Whether events carry cursors.
        is_stream: Whether the request asked for a stream.
        pace: Told how the request went; None for a reader that resumes.
        join: Makes one for such a reader if it acknowledges what it has, as over QUIC.
        timing: Makes the timing object, if it was asked for.
        abandon: Called with the stream when the reader hangs up; None lets the answer go on.
        is_detached: Whether it goes on all the same, once its reader has its name.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        after: int,
        heartbeat_s: float,
        has_ids: bool,
        is_stream: bool = False,
        pace: RequestPace | None = None,
        join: Callable[[int], JoinedPace | None] = lambda after: None,
        timing: Callable[[], dict[str, Any]] | None = None,
        abandon: Callable[[Stream], Any] | None = None,
        is_detached: bool = False,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._after = after
        self._heartbeat_s = heartbeat_s
        self._has_ids = has_ids
        self._is_stream = is_stream
        self._pace = pace
        self._join = join
        self._timing = timing
        self._abandon = abandon
        self._is_detached = is_detached
        self._is_named = False
        """Whether the head, which names the stream, was sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        carry = scope.get("extensions", {}).get(CARRY)
        if carry is not None:
            carry(self._stream, self._after, self._pace or self._join(self._after))
            await start(send, 200, _NO_BODY, self._stream.id, 0)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        sending = asyncio.ensure_future(self._send(partial(self._named, send)))
        leaving = asyncio.ensure_future(client_gone(receive))
        outcome: Outcome | None = Outcome.CANCELLED
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                outcome = Outcome.ENGINE_ERROR
                sending.result()
                outcome = None
        except HeadstartError as error:
            outcome = Outcome.of(error)
            raise
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._left(outcome)

    async def _left(self, outcome: Outcome | None) -> None:
        """The reader is done: with `None` it has read to the end."""
        # Of a streamed answer that nobody can name, nobody reads on.
        goes_on = self._is_detached and (self._is_named or not self._is_stream)
        if outcome is not None and self._abandon is not None and not goes_on:
            await self._abandon(self._stream)
        if self._pace is not None:
            self._pace.left(None if goes_on else outcome)

    async def _named(self, send: Send, message: Message) -> None:
        await send(message)
        self._is_named = True

    async def _send(self, send: Send) -> None:
        stream = self._stream
        pace = self._pace or _Unmeasured()
        # Once the engine has been asked for a stream, the answer is one, whatever comes of it.
        await stream.until(
            lambda: (
                stream.log.header is not None
                or (self._is_stream and stream.clock.get(Mark.TOKENISED) is not None)
            )
        )
        header = stream.log.header
        if header.is_event_stream if header is not None else self._is_stream and not stream.end:
            await send_events(
                stream,
                send,
                after=self._after,
                heartbeat_s=self._heartbeat_s,
                pace=pace,
                has_ids=self._has_ids,
                timing=self._timing,
            )
        else:
            await stream.finished()
            await send_body(stream, send, pace=pace, timing=self._timing)


async def client_gone(receive: Receive) -> None:
    """Wait until whoever asked has left, once the body of the request is read."""
    while (await receive())["type"] != "http.disconnect":
        pass
