"""The load client: sends chat requests and notes when each byte of the answers arrives.

It shares two cores with what it measures. While an answer streams it therefore does nothing but
keep the pieces with the time of their arrival; `timeline` reads them when the block is over.
"""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import msgspec
import numpy as np

from headstart.benchmarks.estimates import Floats
from headstart.stages.errors import HeadstartError
from headstart.stages.sse import DONE, split_events

__all__ = [
    "PATIENCE_S",
    "AnswerRefused",
    "Exchange",
    "Timeline",
    "chat_request",
    "events",
    "offer",
    "timeline",
]

CHAT_PATH = "/v1/chat/completions"
LAST_CHUNK = b"0\r\n\r\n"
"""Ends a chunked body; JSON has no bare line breaks, so nothing inside an answer looks like it."""

PATIENCE_S = 120.0
"""Longer than anything here takes."""


class AnswerRefused(HeadstartError):
    """A server answered a benchmark's request with something else than the work asked for."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and the raw answer to it."""

    sent_at: float
    """Monotonic clock, seconds, just before the request was written."""
    reads: list[tuple[float, bytes]]
    """What each read of the socket brought, and when."""

    @property
    def ended_at(self) -> float:
        """When the last byte came."""
        return self.reads[-1][0]


@dataclass(frozen=True, slots=True)
class Timeline:
    """When the tokens of one answer arrived."""

    first_s: float
    """Seconds from sending the request to the first token."""
    gaps_s: Floats
    """Seconds between neighbouring tokens; tokens that came in one read are 0 apart."""


class _Choice(msgspec.Struct):
    delta: dict[str, msgspec.Raw]
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice]


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def chat_request(
    model: str, prompt: str | Sequence[Any], num_tokens: int, **fields: object
) -> bytes:
    """Return a whole HTTP request that makes a server do a fixed amount of work.

    Args:
        prompt: What a user says, or the messages of a conversation.
        num_tokens: Length of the answer; an end-of-text token does not cut it short.
        fields: Further ones of the body.
    """
    is_said = isinstance(prompt, str)
    body = msgspec.json.encode(
        {
            "model": model,
            "messages": [{"role": "user", "content": prompt}] if is_said else prompt,
            "max_tokens": num_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            **fields,
        }
    )
    head = (
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def offer(
    url: str, requests: Sequence[bytes], concurrency: int, patience_s: float = PATIENCE_S
) -> list[Exchange]:
    """Send requests over `concurrency` kept connections, each as soon as one is free.

    Returns: The exchanges in the order of the requests.

    Raises:
        OSError: A connection cannot be opened, or breaks.
        TimeoutError: The answers take longer than `patience_s`.
    """
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    loop = asyncio.get_running_loop()
    pending: Iterator[tuple[int, bytes]] = iter(enumerate(requests))
    done: dict[int, Exchange] = {}

    async def work(connection: _Connection) -> None:
        for index, request in pending:
            done[index] = await connection.ask(request)

    connections: list[_Connection] = []
    try:
        for _ in range(min(concurrency, len(requests))):
            _, connection = await loop.create_connection(
                _Connection, address.hostname, address.port
            )
            connections.append(connection)
        async with asyncio.timeout(patience_s):
            await asyncio.gather(*map(work, connections))
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))
    return [done[index] for index in range(len(requests))]


class _Connection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self) -> None:
        self._reads: list[tuple[float, bytes]] = []
        self._tail = b""
        self._answered: asyncio.Future[None] | None = None
        self._is_closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    async def ask(self, request: bytes) -> Exchange:
        self._reads = []
        self._answered = asyncio.get_running_loop().create_future()
        sent_at = time.monotonic()
        self._transport.write(request)
        await self._answered
        return Exchange(sent_at, self._reads)

    def data_received(self, data: bytes) -> None:
        self._reads.append((time.monotonic(), data))
        self._tail = (self._tail + data)[-len(LAST_CHUNK) :]
        is_over = self._tail == LAST_CHUNK or self._is_refused()
        if is_over and self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _is_refused(self) -> bool:
        """Whether all of a refusal is there, which is not in chunks."""
        if self._reads[0][1].startswith(b"HTTP/1.1 200"):
            return False
        head, _, body = b"".join(data for _, data in self._reads).partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return length is not None and len(body) >= int(length[1])

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_closed.set()
        if self._answered is not None and not self._answered.done():
            head = b"".join(data for _, data in self._reads)[:500]
            self._answered.set_exception(ConnectionError(f"the server hung up; it sent {head!r}"))

    async def close(self) -> None:
        self._transport.close()
        await self._is_closed.wait()


def timeline(exchange: Exchange, num_tokens: int) -> Timeline:
    """Find out when each token of an answer arrived.

    A server may put several tokens into one event; they arrived together, so whichever event they
    were in, each adds a gap of 0.

    Raises:
        AnswerRefused: It is an error, or not as long as was asked.
    """
    reader = _Reader()
    for at, data in exchange.reads:
        reader.feed(at, data)
    if reader.status != 200:
        raise AnswerRefused(f"the server answered {reader.status}: {reader.rest[:500]!r}")
    events = len(reader.token_at)
    if reader.finish_reason != "length" or not 0 < events <= num_tokens:
        raise AnswerRefused(
            f"asked for {num_tokens} tokens, got {events} events, end {reader.finish_reason}"
        )
    arrivals = np.array(reader.token_at)
    together = np.zeros(num_tokens - events)
    return Timeline(
        first_s=float(arrivals[0] - exchange.sent_at),
        gaps_s=np.concatenate([np.diff(arrivals), together]),
    )


def events(exchange: Exchange) -> list[tuple[float, Any]]:
    """Return the chunks of an answer, each with its arrival.

    Raises:
        AnswerRefused: It is an error.
    """
    reader = _Events()
    for at, data in exchange.reads:
        reader.feed(at, data)
    if reader.status != 200:
        raise AnswerRefused(f"the server answered {reader.status}: {reader.rest[:500]!r}")
    return reader.found


class _Reader:
    """Picks the events with tokens out of an answer; httptools calls its `on_` methods."""

    def __init__(self) -> None:
        self.token_at: list[float] = []
        self.finish_reason: str | None = None
        self.rest = b""
        self._now = 0.0
        self._parser = httptools.HttpResponseParser(self)

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code())

    def feed(self, at: float, data: bytes) -> None:
        self._now = at
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        events, self.rest = split_events(self.rest + body)
        for event in events:
            if event and event != DONE:
                self._take(event)

    def _take(self, event: bytes) -> None:
        for choice in _decode_chunk(event).choices:
            if "role" not in choice.delta:  # that one opens the answer, without a token
                self.token_at.append(self._now)
            self.finish_reason = choice.finish_reason or self.finish_reason


class _Events(_Reader):
    """Keeps every event."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[float, Any]] = []

    def _take(self, event: bytes) -> None:
        self.found.append((self._now, msgspec.json.decode(event)))
