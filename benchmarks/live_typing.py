"""Types prompts into `/v1/realtime`, sends them off, and asks for the same in one piece.

The clock begins with the last key, which is at once followed by the commit.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from headstart.benchmarks.load import PATIENCE_S, AnswerRefused, chat_request, events, offer
from headstart.benchmarks.typists import Stroke

__all__ = ["Answered", "Floor", "LivePrompt", "live_prompt", "plain", "token_ids"]

_ENGINE_STAGES = ("prefill", "decode")
_EDITED = ("input_text.appended", "input_text.replaced")
_UNCONFIRMED = 64
"""Most strokes that the server has not confirmed: it cuts off who does not read."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and what it cost."""

    first_s: float
    """From the last key, or from sending the request, to the first token."""
    whole_s: float
    """The same to the last token."""
    text: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    stages_s: dict[str, float]
    """Of the answer itself, as the gateway says."""
    ahead_tokens: int = 0
    wasted_tokens: int = 0
    ahead_s: float = 0.0
    """Engine time before the commit."""
    thoughts: int = 0
    """In the answer's prompt."""
    thought_s: float = 0.0
    """Engine time of all thoughts."""
    token_ids: tuple[int, ...] = ()
    """Where a plain request asked for them."""
    stream: str = ""
    """The live answer's, by which it can be read again."""

    @property
    def engine_s(self) -> float:
        """Engine time, before the commit and after it."""
        thinking_s = self.ahead_s + self.thought_s
        return thinking_s + sum(self.stages_s.get(stage, 0.0) for stage in _ENGINE_STAGES)


class _Event(msgspec.Struct):
    type: str
    delta: str = ""
    error: Any = None
    response: Any = None
    timing: Any = None
    computed_ahead: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class Floor:
    """Whoever has the floor types and is answered alone; the others hold their hands still."""

    def __init__(self) -> None:
        self._turns = asyncio.Lock()
        self._is_free = asyncio.Event()
        self._is_free.set()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Have the floor."""
        async with self._turns:
            self._is_free.clear()
            try:
                yield
            finally:
                self._is_free.set()

    async def free(self) -> None:
        """Wait until nobody has it."""
        while not self._is_free.is_set():
            await self._is_free.wait()


class LivePrompt:
    """One prompt that is typed.

    Args:
        socket: Just opened.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._length = 0
        self._last_key_at = 0.0
        self._reads: list[tuple[float, _Event]] = []
        self._unconfirmed = 0
        self._confirmed = asyncio.Event()
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.ensure_future(self._read())

    async def configure(self, **session: Any) -> None:
        """Say what the prompt is part of."""
        await self._say("session.update", session=session)

    async def type(self, strokes: Sequence[Stroke], floor: Floor | None = None) -> None:
        """Type, each stroke when it is due.

        Args:
            floor: Whoever has it is waited for; None for who has it.

        Raises:
            AnswerRefused: The server does not take it.
        """
        due = time.monotonic()
        for stroke in strokes:
            due += stroke.wait_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            while self._unconfirmed >= _UNCONFIRMED and not self._answered.done():
                self._confirmed.clear()
                await self._confirmed.wait()
            if self._answered.done():
                self._answered.result()  # says why it is not there any more
            if floor is not None:
                held_at = time.monotonic()
                await floor.free()
                due += time.monotonic() - held_at
            self._last_key_at = time.monotonic()
            await self._stroke(stroke)

    async def commit(self) -> Answered:
        """Send the text off, and take the answer.

        Raises:
            AnswerRefused: There is none.
        """
        await self._say("input_text.commit")
        async with asyncio.timeout(PATIENCE_S):
            await self._answered
        deltas = [
            (at, one.delta) for at, one in self._reads if one.type == "response.output_text.delta"
        ]
        done = self._reads[-1][1]
        if not deltas or done.response["status"] != "completed":
            raise AnswerRefused(f"the live prompt's answer ended so: {done.response}")
        ahead = done.computed_ahead
        return Answered(
            deltas[0][0] - self._last_key_at,
            deltas[-1][0] - self._last_key_at,
            "".join(delta for _, delta in deltas),
            *_cost(done.timing),
            ahead["tokens"],
            ahead["wasted_tokens"],
            ahead["engine_s"],
            ahead.get("thoughts", 0),
            ahead.get("thought_engine_s", 0.0),
            stream=done.response["id"],
        )

    async def clear(self) -> None:
        """Take the text back."""
        self._length = 0
        await self._say("input_text.clear")

    async def close(self) -> None:
        """End the session."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        if self._answered.done() and not self._answered.cancelled():
            self._answered.exception()  # whoever waited has seen it
        await self._say("session.close")

    async def _stroke(self, stroke: Stroke) -> None:
        self._unconfirmed += 1
        if stroke.start == self._length:
            await self._say("input_text.append", text=stroke.text)
        else:
            at = {"start": stroke.start, "end": stroke.end}
            await self._say("input_text.replace", **at, text=stroke.text)
        self._length += len(stroke.text) - (stroke.end - stroke.start)

    async def _say(self, kind: str, **fields: Any) -> None:
        await self._socket.send(msgspec.json.encode({"type": kind, **fields}).decode())

    async def _read(self) -> None:
        """Keep what the answer brings; all else is only taken off the socket."""
        try:
            async for message in self._socket:
                at = time.monotonic()
                event = _decode(message)
                if event.type == "error":
                    raise AnswerRefused(f"the live prompt was refused: {event.error}")
                if event.type.startswith("response."):
                    self._reads.append((at, event))
                elif event.type in _EDITED:
                    self._unconfirmed -= 1
                    self._confirmed.set()
                if event.type == "response.done":
                    self._answered.set_result(None)
            raise AnswerRefused(f"the server closed the connection: {self._socket.close_code}")
        except Exception as error:
            if not self._answered.done():
                self._answered.set_exception(error)
            self._confirmed.set()


@asynccontextmanager
async def live_prompt(
    url: str, model: str, sampling: dict[str, Any], **session: Any
) -> AsyncIterator[LivePrompt]:
    """Open a connection and a session.

    Args:
        session: Further fields of it.

    Raises:
        OSError: It cannot be opened.
    """
    address = f"{url.replace('http', 'ws', 1)}/v1/realtime"
    async with connect(address, proxy=None, max_size=None) as socket:
        prompt = LivePrompt(socket)
        try:
            await prompt.configure(model=model, sampling=sampling, **session)
            yield prompt
        finally:
            await prompt.close()


async def plain(url: str, model: str, text: str, num_tokens: int, **fields: Any) -> Answered:
    """Ask for the answer to a whole prompt.

    Raises:
        AnswerRefused: There is none.
    """
    request = chat_request(model, text, num_tokens, headstart={"timing": True}, **fields)
    (exchange,) = await offer(url, [request], concurrency=1)
    deltas: list[tuple[float, str]] = []
    ids: list[int] = []
    timing: dict[str, Any] = {}
    for at, chunk in events(exchange):
        timing = chunk.get("headstart", {}).get("timing", timing)
        texts = [choice["delta"].get("content") for choice in chunk["choices"]]
        deltas += [(at, text) for text in texts if text]
        ids += token_ids(chunk)
    if not deltas:
        raise AnswerRefused("a plain request's answer has no text")
    return Answered(
        deltas[0][0] - exchange.sent_at,
        deltas[-1][0] - exchange.sent_at,
        "".join(delta for _, delta in deltas),
        *_cost(timing),
        token_ids=tuple(ids),
    )


def token_ids(chunk: dict[str, Any]) -> list[int]:
    """Return the ids of a chunk's tokens, where they were asked for."""
    return [one for choice in chunk["choices"] for one in choice.get("token_ids") or ()]


def _cost(timing: dict[str, Any]) -> tuple[int, int, int, dict[str, float]]:
    prompt, cached = timing["prompt_tokens"], timing["cached_prompt_tokens"] or 0
    return prompt, cached, timing["output_tokens"], timing["stages_s"]
