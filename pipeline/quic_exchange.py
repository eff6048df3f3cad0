"""One HTTP request on a stream of a QUIC session, answered by the gateway's own app.

The app decides as for any request: keys, limits, routes, errors. Where its answer is a token log,
the session carries the log and the exchange is over.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from headstart.client.session_wire import Answer, Request, encode_message
from headstart.cluster.stream import Stream
from headstart.pipeline.log_response import CARRY
from headstart.pipeline.request_pace import JoinedPace, RequestPace

__all__ = ["Exchange", "is_idempotent", "is_stop"]

_Message = MutableMapping[str, Any]
_App = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[_Message]],
        Callable[[_Message], Awaitable[None]],
    ],
    Awaitable[None],
]
_STREAMS = "/v1/streams/"


class Exchange:
    """A request and its answer.

    Args:
        request: As the client sent it.
        max_body_bytes: What the app accepts; nothing beyond is kept.
        write: Appends to the stream: `write(data, is_end)`, and waits while there is no room.
        carry: Takes over a log: `carry(stream, after, pace)`.
    """

    def __init__(
        self,
        request: Request,
        max_body_bytes: int,
        write: Callable[[bytes, bool], Awaitable[None]],
        carry: Callable[[Stream, int, RequestPace | JoinedPace | None], None],
    ) -> None:
        self.request = request
        self._write = write
        self._carry_log = carry
        self._parts: deque[bytes] = deque()
        self.num_bytes = 0
        """Of the request's body, so far."""
        self._room = max_body_bytes + 1  # so much tells the app that it is too long
        self.is_complete = False
        """Whether the request's body has ended."""
        self._is_gone = False
        self._changed = asyncio.Event()
        self.is_carried = False
        """Whether the answer is a log that the session carries."""
        self._is_end_told = False
        self._status: int | None = None
        self._headers: tuple[tuple[str, str], ...] = ()
        self._is_head_written = False

    def body(self, data: bytes, is_end: bool) -> None:
        """Take a part of the request's body."""
        if self._room and data:
            kept = data[: self._room]
            self._room -= len(kept)
            self.num_bytes += len(kept)
            self._parts.append(kept)
        self.is_complete |= is_end
        self._changed.set()

    def gone(self) -> None:
        """The client has given up."""
        self._is_gone = True
        self._changed.set()

    async def run(self, app: _App) -> None:
        """Answer the request."""
        await app(self._scope(), self._receive, self._send)

    async def refuse(self, status: int, body: bytes) -> None:
        """Answer it without asking the app."""
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await self._send({"type": "http.response.body", "body": body})

    def _scope(self) -> dict[str, Any]:
        request = self.request
        path, _, query = request.path.partition("?")
        headers = [
            (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
            for name, value in request.headers
        ]
        extensions = {}
        if request.number is not None:
            headers.append((b"x-headstart-detach", b"1"))
            extensions[CARRY] = self._carry
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "3",
            "method": request.method.upper(),
            "scheme": "https",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": headers,
            "client": None,
            "server": None,
            "state": {},
            "extensions": extensions,
        }

    def _carry(self, stream: Stream, after: int, pace: RequestPace | JoinedPace | None) -> None:
        self.is_carried = True
        self._carry_log(stream, after, pace)

    async def _receive(self) -> _Message:
        while True:
            if self._parts:
                part = self._parts.popleft()
                is_more = bool(self._parts) or not self.is_complete
                return {"type": "http.request", "body": part, "more_body": is_more}
            if self._is_gone:
                return {"type": "http.disconnect"}
            if self.is_complete and not self._is_end_told:
                self._is_end_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            self._changed.clear()
            await self._changed.wait()

    async def _send(self, message: _Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = tuple(
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in message.get("headers", ())
            )
        elif message["type"] == "http.response.body":
            data = bytes(message.get("body", b""))
            if not self._is_head_written:
                assert self._status is not None
                self._is_head_written = True
                head = Answer(self._status, self._headers, self.is_carried)
                data = encode_message(head) + data
            await self._write(data, not message.get("more_body", False))


def is_idempotent(request: Request) -> bool:
    """Whether it may be done twice: only reading an answer on, which is all that 0-RTT is for."""
    return request.method.upper() == "GET" and request.path.startswith(_STREAMS)


def is_stop(request: Request) -> bool:
    """Whether it only ends an answer, which makes room."""
    return request.method.upper() == "DELETE" and request.path.startswith(_STREAMS)
