"""A live prompt over a WebSocket: events in, events out, in the manner of OpenAI's Realtime API.

One task reads, one writes, one sends off, one carries the answer. The answer is read from its log
with a cursor, as by every other carrier, so a client that comes back goes on where it was; and as
by every other, it is written in the turn of the event loop in which it is read.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

import msgspec
import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from headstart.cluster.tasks import Tasks
from headstart.pipeline.guard import caller_of
from headstart.pipeline.live_answer import Changed, Gone, LiveAnswer, News, Reasoning
from headstart.pipeline.live_events import (
    Append,
    Cancel,
    Clear,
    Close,
    Commit,
    InEvent,
    Replace,
    SessionConfig,
    SessionUpdate,
    decode,
    error_event,
    event_id_of,
)
from headstart.pipeline.live_report import deltas, described, done, text_state
from headstart.pipeline.live_session import LiveSession
from headstart.pipeline.live_sessions import LiveSessions
from headstart.stages.errors import BadRequest, EngineFailed, HeadstartError, LiveRefused

__all__ = ["PROTOCOL", "LiveSocket"]

PROTOCOL = "realtime"
"""WebSocket subprotocol that is chosen where a client offers it."""
_log = structlog.get_logger(__name__)
_QUEUED = 256
"""Events that may wait for a client that does not read."""
_CLOSE_S = 10.0
"""Longest that such a client may take to read them before it is hung up on."""
_WRITE_BYTES = 16 * 1024
_MAX_CURSOR_DIGITS = 20
_TOO_SLOW, _REFUSED = 4008, 4003
"""Codes that the connection is closed with: 4000 to 4999 are an application's own."""
_GONE = {Gone.TAKEN_OVER: 4001, Gone.ENDED: 4002}
"""The same, by why."""


class LiveSocket:
    """One connection.

    Args:
        socket: Not accepted yet.
        sessions: The sessions.
    """

    def __init__(self, socket: WebSocket, sessions: LiveSessions) -> None:
        self._socket = socket
        self._sessions = sessions
        self._out: deque[dict[str, Any]] = deque()
        self._has_news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Done with the code to close with."""
        self._tasks = Tasks()
        self._carrying: asyncio.Task[None] | None = None
        """Sends the latest answer, once those before are sent."""
        self._session: LiveSession | None = None

    async def run(self) -> None:
        """Serve the connection until either side ends it."""
        socket = self._socket
        offered = socket.scope.get("subprotocols", ())
        await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
        try:
            session = self._session = self._attach()
        except HeadstartError as error:
            await socket.send_text(_text(error_event(error, None)))
            await socket.close(_REFUSED)
            return
        tasks: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._read()),
            asyncio.ensure_future(self._write()),
        ]
        try:
            await asyncio.wait([*tasks, self._over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sessions.unwatch(session, self)
            for task in tasks:  # nothing more is read or begun
                task.cancel()
            await self._tasks.close()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                    _log.error("live_socket_failed", exc_info=outcome)
        if self._over.done():
            with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._flush()
                    await socket.close(self._over.result())

    def tell(self, news: News) -> None:
        """As a `Watcher`: say what has happened."""
        if isinstance(news, Gone):
            self._stop(news)
        elif isinstance(news, HeadstartError):
            self._put(error_event(news, None))
        elif isinstance(news, Changed | LiveAnswer):
            self._changed(news)
        elif not self._is_full:  # the next one says all that this one would
            kind = "reasoning" if isinstance(news, Reasoning) else "computed"
            self._put({"type": f"input_text.{kind}", **msgspec.to_builtins(news)})

    def _changed(self, news: Changed | LiveAnswer) -> None:
        """Say what somebody else has done."""
        session = self._session
        if session is None:
            return  # it is described when it is taken up
        if isinstance(news, LiveAnswer):  # which is paced for whoever sent the text off
            self._committed(session, news, is_paced=False)
        elif news is Changed.SESSION:
            self._put({"type": "session.updated", "session": described(session)})
        else:
            self._put({"type": "input_text.changed", **text_state(session)})

    async def answered(self) -> None:
        """As a `Watcher`: the latest answer is sent behind all before it."""
        if self._carrying is not None:
            await asyncio.wait([self._carrying])

    def _attach(self) -> LiveSession:
        """Take up the session that the address names, or begin one."""
        query = self._socket.query_params
        caller = caller_of(self._socket)
        after = query.get("after", "0")
        if not after.isdecimal() or len(after) > _MAX_CURSOR_DIGITS:
            raise BadRequest("after must be a cursor", param="after")
        if (session_id := query.get("session")) is None:
            session = self._sessions.create(caller)
            if (model := query.get("model")) is not None:
                try:
                    session.configure(SessionConfig(model=model))
                except HeadstartError:
                    self._sessions.end(session)
                    raise
            session.start()
        else:
            session = self._sessions.get(session_id, caller)
        answer = session.answer
        if session_id is not None and answer is not None:
            answer.stream.log.check_cursor(int(after))
        self._sessions.watch(session, self)
        kind = "session.created" if session_id is None else "session.resumed"
        self._put({"type": kind, "session": described(session)})
        if answer is not None and (session.is_answering or "after" in query):
            self._carry(answer, int(after), is_paced=False)
        return session

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] != "websocket.receive":
                return
            data: str | bytes = message.get("text") or message.get("bytes") or b""
            assert self._session is not None
            self._sessions.touch(self._session)
            event: InEvent | None = None
            try:
                event = decode(data)
                await self._take(event)
            except HeadstartError as error:
                event_id = event_id_of(data) if event is None else event.event_id
                self._put(error_event(error, event_id))

    async def _take(self, event: InEvent) -> None:
        session = self._session
        assert session is not None
        match event:
            case SessionUpdate():
                session.configure(event.session)
                self._put({"type": "session.updated", "session": described(session)})
            case Append() | Replace() | Clear():
                session.edit(event)
                self._put({"type": _DONE[type(event)], **text_state(session)})
            case Commit():
                committing = self._commit(session, event)
                self._tasks.start(self._told_of(committing), name="commit live prompt")
                await asyncio.sleep(0)  # it has begun: what follows comes after it
            case Cancel():
                await session.cancel()
            case Close():
                self._sessions.end(session)

    async def _commit(self, session: LiveSession, event: Commit) -> None:
        """Send the text off, which may wait for a thought: other events are taken meanwhile."""
        try:
            answer = await session.commit(event.version)
        except HeadstartError as error:
            self._put(error_event(error, event.event_id))
            return
        self._committed(session, answer, is_paced=True)

    def _committed(self, session: LiveSession, answer: LiveAnswer, *, is_paced: bool) -> None:
        self._put({"type": "input_text.committed", **text_state(session)})
        self._carry(answer, 0, is_paced=is_paced)

    async def _write(self) -> None:
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            await self._flush()

    async def _flush(self) -> None:
        """Send what has been said; it waits for nothing but a client that does not read."""
        async with self._writing:
            while self._out:
                await self._socket.send_text(_text(self._out[0]))
                self._out.popleft()  # not before: whoever waited may have been cancelled

    async def _say(self, event: dict[str, Any]) -> None:
        """Send an event, behind those that are queued."""
        self._queue(event)
        await self._flush()

    def _put(self, event: dict[str, Any]) -> None:
        """Queue an event; a client that has not read the last ones has to come back."""
        if not self._is_full:
            self._queue(event)
        elif not self._over.done():
            self._over.set_result(_TOO_SLOW)

    def _queue(self, event: dict[str, Any]) -> None:
        self._out.append(event)
        self._has_news.set()

    @property
    def _is_full(self) -> bool:
        return len(self._out) >= _QUEUED

    def _stop(self, why: Gone) -> None:
        if not self._over.done():
            self._put(error_event(LiveRefused(_WORDS[why], code=why.value), None))
        if not self._over.done():
            self._over.set_result(_GONE[why])

    def _carry(self, answer: LiveAnswer, after: int, *, is_paced: bool) -> None:
        before = self._carrying
        sending = self._send_answer(answer, after, before, is_paced=is_paced)
        self._carrying = self._tasks.start(self._told_of(sending), name="carry live answer")

    async def _told_of(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what the client waits for; it hears of what fails."""
        try:
            await work
        except WebSocketDisconnect:
            pass  # whoever reads hears of it, too
        except Exception:
            error = EngineFailed("this failed; the gateway's log has the details")
            self._put(error_event(error, None))
            raise

    async def _send_answer(
        self,
        answer: LiveAnswer,
        cursor: int,
        before: asyncio.Task[None] | None,
        *,
        is_paced: bool,
    ) -> None:
        stream = answer.stream
        response = {"id": stream.id, "status": "in_progress"}
        try:
            if before is not None:
                await asyncio.wait([before])
            await self._say({"type": "response.created", "response": response})
            while stream.end is None or stream.log.end > cursor:
                await stream.grown(cursor)
                cursor = cursor or stream.log.header_end
                taken = list(stream.log.frames(cursor, _WRITE_BYTES))
                cursor = taken[-1][0] if taken else cursor
                for event in deltas(taken):
                    await self._say(event | {"response_id": stream.id})
                if is_paced and taken:
                    num_tokens = sum(len(frame.tokens) for _, frame in taken)
                    answer.pace.wrote(num_tokens, time.monotonic())
            await asyncio.shield(answer.settled)
        finally:
            if is_paced:
                answer.pace.left(None)
        await self._say({"type": "response.output_text.done", "response_id": stream.id})
        assert self._session is not None
        await self._say(done(answer) | text_state(self._session))


_DONE: dict[type[InEvent], str] = {
    Append: "input_text.appended",
    Replace: "input_text.replaced",
    Clear: "input_text.cleared",
}
_WORDS = {
    Gone.TAKEN_OVER: "another connection has taken over this session",
    Gone.ENDED: "the session was closed, or silent for too long; its text is forgotten",
}


def _text(event: dict[str, Any]) -> str:
    return msgspec.json.encode(event).decode()
