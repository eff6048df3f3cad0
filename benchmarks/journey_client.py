"""The reader's end of a journey: one client that types a prompt, or asks for it, and is answered.

A process of its own, behind the lossy link, which is spoken to in lines of JSON. The client is a
whole one: what it opens, asks and confirms crosses the link.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import msgspec
import uvloop

from headstart.benchmarks.child import first_line, lines, say
from headstart.benchmarks.network_spaces import enter
from headstart.benchmarks.shipped_clients import Chunks, Client, OpenAI, Ours, Turn, opened, taken
from headstart.benchmarks.socket_orders import Enter
from headstart.benchmarks.typists import Stroke
from headstart.client import AsyncLivePrompt

__all__ = ["ENTER_S", "Features", "Go", "Meet", "greet", "serve", "travel"]

ENTER_S = 0.18
"""Between the last letter and the key that sends the prompt off, which is a key like any other."""
_PAUSE_S = 1.0
"""Between a client's first short answer and the question: a session for datagrams opens."""
_PATIENCE_S = 60.0
"""For an answer."""
_UNCONFIRMED = 512
"""Most strokes that the server has not confirmed."""


class Features(msgspec.Struct, frozen=True):
    """Which of ours an arm has."""

    live: bool
    speculation: bool
    datagrams: bool

    @property
    def name(self) -> str:
        names = [name for name in self.__struct_fields__ if getattr(self, name)]
        return " + ".join(names) or "none of them"


class Meet(msgspec.Struct, tag=True):
    """Make a client and have it ask something short, as in a conversation: connections are open
    then. Answered by `true`; a `Go` must follow."""

    url: str
    model: str
    features: Features | None
    """None is OpenAI's client."""
    key: str | None = None
    """For the server."""


class Go(msgspec.Struct, tag=True):
    """Type a prompt, or ask for it at once, and read the answer; answered by a `Turn`.

    That was asked when the prompt was sent off, and counts characters.
    """

    text: str
    strokes: list[Stroke]
    num_tokens: int
    salt: str
    """Of the prefix cache."""


def serve() -> None:
    """Be the reader's end."""
    order = msgspec.json.decode(first_line(), type=Enter)
    if order.space is not None:
        enter(order.space)
    os.environ["NO_PROXY"] = "*"  # the link leads nowhere else
    uvloop.run(_serve())


async def _serve() -> None:
    orders = lines()
    async for line in orders:
        say(await _obey(msgspec.json.decode(line, type=Meet), orders))


async def _obey(meet: Meet, orders: AsyncIterator[bytes]) -> Turn:
    async with _client_of(meet) as client:
        await greet(client, meet.model)
        say(True)
        go = msgspec.json.decode(await anext(orders), type=Go)
        return await travel(client, meet, go)


def _client_of(meet: Meet) -> AbstractAsyncContextManager[Ours | OpenAI]:
    features = meet.features
    if features is None:
        return opened(Client.OPENAI, meet.url, meet.key)
    return opened(Client.OURS, meet.url, meet.key, has_datagrams=features.datagrams)


async def greet(client: Ours | OpenAI, model: str) -> None:
    """Have a client open what it reads answers by."""
    body = _body(model, "Say one.", 2)
    if isinstance(client, OpenAI):
        await client.client.chat.completions.create(**body)
    else:
        turn = Turn()
        await taken(turn, client.chunks(body, turn.shown), _PATIENCE_S)


async def travel(client: Ours | OpenAI, meet: Meet, go: Go) -> Turn:
    """Have a prompt answered."""
    turn = Turn()
    features = meet.features
    fields: dict[str, Any] = {"ignore_eos": True, "cache_salt": go.salt}
    if features is not None:
        fields["headstart"] = {"speculation": "auto" if features.speculation else "off"}
    if features is not None and features.live:
        assert isinstance(client, Ours)
        chunks = _typed(client, meet.model, go, fields, turn)
        patience_s = _PATIENCE_S + sum(stroke.wait_s for stroke in go.strokes)
    else:
        await asyncio.sleep(_PAUSE_S)
        chunks = client.chunks(
            _body(meet.model, go.text, go.num_tokens) | {"extra_body": fields}, turn.shown
        )
        patience_s = _PATIENCE_S
        turn.asked_at = time.monotonic()
    await taken(turn, chunks, patience_s, len)
    return turn


def _body(model: str, text: str, num_tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": num_tokens, "temperature": 0}


async def _typed(client: Ours, model: str, go: Go, fields: dict[str, Any], turn: Turn) -> Chunks:
    sampling = {"max_tokens": go.num_tokens, "temperature": 0, **fields}
    async with await client.client.live(model=model, **sampling) as prompt:
        async with asyncio.TaskGroup() as sending:
            await _type(prompt, go.strokes, sending)
            await asyncio.sleep(ENTER_S)
            turn.asked_at = time.monotonic()
            answer = await prompt.commit()
        async with aclosing(client.read(answer, turn.shown)) as chunks:
            async for each in chunks:
                yield each


async def _type(
    prompt: AsyncLivePrompt, strokes: Sequence[Stroke], sending: asyncio.TaskGroup
) -> None:
    """Send each stroke when it is due, as a program does whose user types: it waits for none."""
    free, length, due = asyncio.Semaphore(_UNCONFIRMED), 0, time.monotonic()

    async def send(stroke: Stroke, *, is_append: bool) -> None:
        try:
            if is_append:
                await prompt.append(stroke.text)
            else:
                await prompt.replace(stroke.start, stroke.end, stroke.text)
        finally:
            free.release()

    for stroke in strokes:
        due += stroke.wait_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await free.acquire()
        sending.create_task(send(stroke, is_append=stroke.start == length))
        length += len(stroke.text) - (stroke.end - stroke.start)
