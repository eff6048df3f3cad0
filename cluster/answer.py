"""Writes one app's HTTP answer into a token log."""

import time
from collections.abc import Callable

from headstart.cluster.answer_usage import with_speculation
from headstart.cluster.asgi import Message
from headstart.cluster.stream import Stream
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.speculation_counts import Speculated
from headstart.stages.sse import AnyParser, TakeTokens, parser_of, split_events

__all__ = ["AnswerWriter", "api_of"]

_APIS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/responses": "responses",
}

_PASSED_ON = (b"metadata",)
"""Response headers of the app that are part of its answer: this one says where in a body of bytes
each embedding lies."""


def api_of(path: str) -> str:
    """Name the API whose events can be rebuilt from frames, or return an empty string."""
    return _APIS.get(path, "")


class AnswerWriter:
    """Turns `http.response.*` messages into records.

    Args:
        stream: Where the records go.
        api: See `api_of`.
        take: Hands over the token ids of a choice that no frame has carried yet.
        speculated: Says what was drafted for the answer so far.
        is_over: Once it says so, messages are dropped: an app that was told its client has gone
            may still send an empty answer, which nobody must take for the real one.
    """

    def __init__(
        self,
        stream: Stream,
        api: str,
        take: TakeTokens,
        speculated: Callable[[], Speculated | None],
        is_over: Callable[[], bool],
    ) -> None:
        self._stream = stream
        self._api = api
        self._take = take
        self._speculated = speculated
        self._is_over = is_over
        self._began = time.monotonic()
        self._status = 0
        self._content_type = ""
        self._events: AnyParser | None = None
        self._rest = b""
        self.framed_at = self._began
        """When the last record was appended, in seconds on the monotonic clock."""

    def send(self, message: Message) -> None:
        """Take one ASGI message from the app."""
        if self._is_over():
            return
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body" and (body := message.get("body")):
            self._body(bytes(body))
            self.framed_at = time.monotonic()

    def _start(self, message: Message) -> None:
        headers = {name.lower(): value for name, value in message.get("headers", ())}
        self._status = int(message["status"])
        self._content_type = headers.get(b"content-type", b"application/json").decode("latin-1")
        if self._content_type.startswith("text/event-stream"):
            replay = self._stream.replay
            known = None if replay is None else replay.header
            self._events = parser_of(self._api, self._status, self._content_type, known)
        else:
            passed_on = tuple(
                (name.decode(), headers[name].decode("latin-1"))
                for name in _PASSED_ON
                if name in headers
            )
            self._stream.append(StreamHeader(self._status, self._content_type, headers=passed_on))

    def _body(self, body: bytes) -> None:
        at_us = int((time.monotonic() - self._began) * 1e6)
        events = self._events
        if events is None:
            body = with_speculation(self._api, body, self._speculated())
            self._stream.append(Frame(0, Channel.EVENT, "", (), at_us, body))
            return
        payloads, self._rest = split_events(self._rest + body, has_names=self._api == "responses")
        for written in payloads:
            payload = with_speculation(self._api, written, self._speculated())
            is_first = events.header is None
            frame = events.parse(payload, self._take, at_us)
            if is_first and events.header is not None:
                self._stream.append(events.header)
            self._stream.append(frame)
