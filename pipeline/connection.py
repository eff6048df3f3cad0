"""One HTTP connection, with the limits that uvicorn leaves out.

uvicorn waits for ever for a request's head and for a client that does not read, takes heads of any
length, and has no cap that acts before a request has been read. What is refused here has not been
given to the app.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from headstart.configs.serving import GatewaySettings
from headstart.monitoring.labels import Refusal
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.errors import error_body, error_headers
from headstart.pipeline.slow_reader import SlowReader
from headstart.stages.errors import (
    BadRequest,
    HeadstartError,
    HeadTooLarge,
    Overloaded,
    RequestTimeout,
)

__all__ = ["Connection"]

_LINGER_S = 1.0
"""For which a refused client may go on writing: closing at once would reset the connection and
take the answer with it."""
_MOST_LINGERING = 256
_MOST_PIPELINED = 16
"""Requests that may wait behind one on the same connection."""


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, within limits.

    Args:
        settings: The limits.
        metrics: Told of open and refused connections.
        lingering: Refused connections of the same server that are not closed yet.
        uvicorn: As uvicorn makes any of its connections.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        metrics: Metrics,
        lingering: set["Connection"],
        **uvicorn: Any,
    ) -> None:
        super().__init__(**uvicorn)
        self._settings = settings
        self._metrics = metrics
        self._lingering = lingering
        self.timeout_keep_alive = settings.keep_alive_s  # type: ignore[assignment]  # for a timer
        self._head_timer: asyncio.TimerHandle | None = None
        self._slow_reader = SlowReader(self.loop, settings.send_timeout_s, metrics)
        self._num_unparsed = 0
        """Bytes since the last whole head, piece of a body, or end of a request."""
        self._has_begun = False
        """Whether part of a request has come, and not yet all of it."""
        self._is_head_open = False
        """Whether that part ends within its headers."""
        self._is_refused = False
        self._is_handed_on = False
        """Whether another protocol has the connection now."""
        self._unanswered: list[RequestResponseCycle] = []
        """Requests whose heads have come; the first of them is being answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        most = self._settings.max_connections
        is_over = len(self.connections) >= most
        super().connection_made(transport)
        if is_over:
            error = Overloaded(f"all {most} connections are taken; try again")
            self._refuse(error, Refusal.CONNECTIONS)
            return
        self._metrics.set_connections(len(self.connections))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._slow_reader.resumed()
        self._lingering.discard(self)
        super().connection_lost(exc)
        for cycle in self._pending():
            # uvicorn tells the last one only: the answer before it would go on.
            cycle.disconnected = True
            cycle.message_event.set()
        self._metrics.set_connections(len(self.connections))

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._num_unparsed += len(data)
        super().data_received(data)
        if self._is_refused or self._is_handed_on or self.transport.is_closing():
            return
        if self._num_unparsed > self._settings.max_header_bytes:
            self._refuse_head()
        elif self._is_idle and self._head_timer is None:
            # The data has stopped the keep-alive timer, and began no request yet.
            self._await_head()

    def pause_writing(self) -> None:
        self._slow_reader.paused(self.transport)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._slow_reader.resumed()
        super().resume_writing()

    def on_message_begin(self) -> None:
        self._has_begun = self._is_head_open = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._settings.max_header_bytes:
            self._refuse_head()
        elif len(self.pipeline) >= _MOST_PIPELINED:
            error = BadRequest("too many requests wait behind one on this connection")
            self._refuse(error, Refusal.MALFORMED)
        if self._is_refused:
            return
        self._num_unparsed = 0
        self._is_head_open = False
        self._stop_waiting()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self._unanswered = [*self._pending(), self.cycle]

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            self._num_unparsed = 0
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_refused:
            self._num_unparsed = 0
            self._has_begun = False
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, in the shape of every other error."""
        self._refuse(BadRequest(msg), Refusal.MALFORMED)

    def handle_websocket_upgrade(self) -> None:
        if not self._is_refused:
            self._is_handed_on = True
            super().handle_websocket_upgrade()

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being answered."""
        return not self._pending()

    def _give_up_body(self) -> None:
        """Let go of a request of which the rest cannot be read, unless its answer has begun."""
        pending = self._pending()
        if self._has_begun and len(pending) == 1 and not pending[0].response_started:
            pending[0].disconnected = True
            pending[0].message_event.set()
            self._unanswered = []

    def _pending(self) -> list[RequestResponseCycle]:
        return [cycle for cycle in self._unanswered if not cycle.response_complete]

    def _await_head(self) -> None:
        limit_s = self._settings.header_timeout_s
        self._head_timer = self.loop.call_later(limit_s, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if not self._is_head_open:
            # Nobody has asked for anything, or what still comes of a request is answered already.
            self.transport.close()
            return
        limit_s = self._settings.header_timeout_s
        error = RequestTimeout(f"the request's headers took longer than {limit_s} s")
        self._refuse(error, Refusal.TOO_SLOW)

    def _refuse_head(self) -> None:
        limit = self._settings.max_header_bytes
        error = HeadTooLarge(f"the request's headers are over the limit of {limit} bytes")
        self._refuse(error, Refusal.TOO_LARGE)

    def _refuse(self, error: HeadstartError, reason: Refusal) -> None:
        """Hang up; with an answer, unless that would fall into the middle of another."""
        if self._is_refused:
            return
        self._is_refused = True
        self._stop_waiting()
        self._unset_keepalive_if_required()
        self._metrics.refused(reason)
        # It no longer counts, or clients that were refused would keep others out.
        self.connections.discard(self)
        self._give_up_body()
        if self._is_idle:
            self.transport.write(_answer(error))
        if not self._is_idle or len(self._lingering) >= _MOST_LINGERING:
            self.transport.close()
            return
        self._lingering.add(self)
        self.loop.call_later(_LINGER_S, self.transport.close)


def _answer(error: HeadstartError) -> bytes:
    """Return a whole HTTP response."""
    body = error_body(error)
    headers = error_headers(error) | {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    phrase = HTTPStatus(error.http_status).phrase
    lines = [
        f"HTTP/1.1 {error.http_status} {phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
