"""Clients as their users have them: ours, and `openai`'s on an event stream. Each asks twice.

Nothing is prepared for them. Connections, handshakes, hello and race cross the link as all else
does, and the second question finds whatever the first has left open.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from enum import StrEnum
from typing import Any

import msgspec
import openai
from openai.types.chat import ChatCompletionChunk

from headstart.benchmarks.socket_readers import Shown
from headstart.client import AsyncAnswer, AsyncClient
from headstart.stages.carrier_ladder import Rung

__all__ = ["AskAgain", "Chunks", "Client", "OpenAI", "Ours", "Turn", "ask_again", "opened", "taken"]


class Client(StrEnum):
    """What is compared."""

    OPENAI = "openai client, SSE"
    OURS = "our client as shipped"


class AskAgain(msgspec.Struct, tag=True):
    """Make clients and have each ask, and ask again; answered by a list of `Turn`s for each."""

    client: Client
    url: str
    model: str
    num_tokens: int
    count: int
    spread_s: float
    """Within which they begin: users do not come at one moment."""
    pause_s: float
    """Between an answer and the next question."""
    patience_s: float
    """For an answer."""
    first_prompt: int = 0
    """Each answer has a prompt of its own."""


class Turn(msgspec.Struct):
    """One question and what came."""

    asked_at: float = 0.0
    """On the monotonic clock."""
    shown: Shown = msgspec.field(default_factory=Shown)
    text: str = ""
    by_datagrams: int = 0
    """How much of it came while datagrams alone carried the answer."""


Chunks = AsyncGenerator[tuple[ChatCompletionChunk, bool]]
"""Each with whether datagrams alone carry the answer."""


class Ours:
    """Ours."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def chunks(self, body: dict[str, Any], shown: Shown) -> Chunks:
        """Ask."""
        answer = await self.client.chat.completions.create(stream=True, **body)
        async with aclosing(self.read(answer, shown)) as chunks:
            async for each in chunks:
                yield each

    async def read(self, answer: AsyncAnswer[ChatCompletionChunk], shown: Shown) -> Chunks:
        """Read an answer that was asked for."""
        shown.id = answer.id
        async with answer:
            async for chunk in answer:
                yield chunk, answer.rungs == {Rung.DATAGRAMS}


class OpenAI:
    """OpenAI's."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self.client = client

    async def chunks(self, body: dict[str, Any], shown: Shown) -> Chunks:
        """Ask."""
        stream = await self.client.chat.completions.create(stream=True, **body)
        async with stream:
            shown.id = stream.response.headers.get("x-headstart-stream", "")
            async for chunk in stream:
                yield chunk, False


@asynccontextmanager
async def opened(
    client: Client, url: str, key: str | None = None, *, has_datagrams: bool = True
) -> AsyncIterator[Ours | OpenAI]:
    """Make a client, and close it."""
    if client is Client.OURS:
        async with AsyncClient(url, api_key=key, datagrams=has_datagrams) as ours:
            yield Ours(ours)
    else:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key or "none") as theirs:
            yield OpenAI(theirs)


async def ask_again(order: AskAgain) -> list[list[Turn]]:
    """Do it."""
    os.environ["NO_PROXY"] = "*"  # the link leads nowhere else
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(opened(order.client, order.url))
            for _ in range(order.count)
        ]
        return await asyncio.gather(
            *(_ask_twice(client, order, number) for number, client in enumerate(clients))
        )


async def _ask_twice(client: Ours | OpenAI, order: AskAgain, number: int) -> list[Turn]:
    await asyncio.sleep(order.spread_s * number / order.count)
    turns: list[Turn] = []
    for prompt in (number, number + order.count):
        if turns:
            await asyncio.sleep(order.pause_s)
        text = f"Say number {order.first_prompt + prompt} in other words."
        body = {
            "model": order.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": order.num_tokens,
        }
        turns.append(await _ask(client, body, order.patience_s))
    return turns


async def _ask(client: Ours | OpenAI, body: dict[str, Any], patience_s: float) -> Turn:
    turn = Turn(asked_at=time.monotonic())
    await taken(turn, client.chunks(body, turn.shown), patience_s)
    return turn


async def taken(
    turn: Turn, chunks: Chunks, patience_s: float, amount: Callable[[str], int] = bool
) -> None:
    """Take an answer to its end, or to what ends it before.

    Args:
        amount: How much is shown with a chunk's text; without one, a chunk.
    """
    texts, shown = [], turn.shown
    try:
        async with asyncio.timeout(patience_s), aclosing(chunks):
            async for chunk, is_by_datagrams in chunks:
                text = _text(chunk.choices)
                texts.append(text)
                shown.more(amount(text))
                turn.by_datagrams += is_by_datagrams and amount(text)
        shown.is_whole = True
    except TimeoutError:
        pass
    except Exception as error:  # a client's own, of whatever kind, is what became of the answer
        shown.why = f"{type(error).__name__}: {error}"
    turn.text = "".join(texts)


def _text(choices: Sequence[Any]) -> str:
    return "".join(choice.delta.content or "" for choice in choices)
