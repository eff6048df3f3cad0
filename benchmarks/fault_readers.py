"""Readers that note exactly what reached them, whatever becomes of the server.

One connection for each request, no retries, no helpful library between the bytes and the count.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httptools
import msgspec

from headstart.stages.sse import DONE

__all__ = ["Answer", "Transcript", "ask", "chat", "transcript"]

_READ_BYTES = 1 << 16


@dataclass(eq=False)
class Answer:
    """One HTTP answer, as far as it has come."""

    status: int = 0
    stream_id: str = ""
    body: bytearray = field(default_factory=bytearray)
    is_complete: bool = False
    """Whether HTTP says that this is all; False after a broken connection."""
    has_grown: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def num_events(self) -> int:
        """Whole server-sent events so far."""
        return self.body.count(b"\n\n")

    async def reaches(self, num_events: int) -> None:
        """Wait for so many events, or the end."""
        while self.num_events < num_events and not self.is_complete:
            self.has_grown.clear()
            await self.has_grown.wait()

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-headstart-stream":
            self.stream_id = value.decode()

    def on_body(self, data: bytes) -> None:
        self.body += data
        self.has_grown.set()

    def on_message_complete(self) -> None:
        self.is_complete = True
        self.has_grown.set()


@dataclass(frozen=True, slots=True)
class Transcript:
    """What an event stream says."""

    text: str
    finish_reason: str | None
    usage: dict[str, Any] | None
    cursors: tuple[int, ...]
    """Ids of its events."""
    error: dict[str, Any] | None
    is_done: bool

    @property
    def last_cursor(self) -> int:
        return self.cursors[-1] if self.cursors else 0

    def same_answer(self, other: "Transcript") -> bool:
        """Whether both are the same answer, in full."""
        mine = (self.text, self.finish_reason, self.usage, self.is_done, self.error)
        return mine == (other.text, other.finish_reason, other.usage, other.is_done, other.error)


async def ask(
    address: tuple[str, int],
    method: str,
    path: str,
    body: bytes = b"",
    *,
    answer: Answer | None = None,
    is_detached: bool = False,
    pace: Callable[[], float] | None = None,
) -> Answer:
    """Send one request and read until the answer, or the connection, ends.

    Args:
        answer: Filled as bytes arrive, for whoever watches.
        is_detached: Whether the answer shall outlive the connection.
        pace: Seconds to wait before each read; None reads at once.

    Raises:
        OSError: Nobody listens.
    """
    answer = answer or Answer()
    reader, writer = await asyncio.open_connection(*address)
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: localhost",
        "connection: close",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(["x-headstart-detach: 1"] if is_detached else []),
    ]
    parser = httptools.HttpResponseParser(answer)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        while not answer.is_complete:
            if pace is not None:
                await asyncio.sleep(pace())
            data = await reader.read(_READ_BYTES)
            if not data:
                break
            parser.feed_data(data)
            answer.status = parser.get_status_code()
    except ConnectionError:
        pass  # what has come is what counts
    finally:
        writer.transport.abort()
        answer.has_grown.set()
    return answer


def chat(model: str, prompt: str, num_tokens: int, *, is_stream: bool = True) -> bytes:
    """A greedy chat request."""
    fields: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": num_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    if is_stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(fields)


def transcript(body: bytes) -> Transcript:
    """Read a body of server-sent events; an unfinished last one is left out."""
    text: list[str] = []
    cursors: list[int] = []
    finish_reason = usage = error = None
    is_done = False
    for event in body.split(b"\n\n")[:-1]:
        for line in event.split(b"\n"):
            name, _, value = line.partition(b": ")
            if name == b"id":
                cursors.append(int(value))
            if name != b"data":
                continue
            if value == DONE:
                is_done = True
                continue
            chunk = msgspec.json.decode(value)
            error = chunk.get("error", error)
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices", ()):
                text.append(choice["delta"].get("content") or "")
                finish_reason = choice.get("finish_reason") or finish_reason
    return Transcript("".join(text), finish_reason, usage, tuple(cursors), error, is_done)
