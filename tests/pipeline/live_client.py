"""A WebSocket client of a gateway in this process, that says and expects events."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.gateway import Gateway
from tests.support.waiting import soon

__all__ = ["LiveClient", "is_usable", "live"]

Event = dict[str, Any]


class LiveClient:
    """An open connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen: list[Event] = []

    async def say(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        await soon(self.socket.send(json.dumps({"type": kind, **fields})))

    async def next(self) -> Event:
        """Receive an event."""
        event: Event = json.loads(await soon(self.socket.recv()))
        self.seen.append(event)
        return event

    async def until(self, kind: str) -> Event:
        """Receive events up to one of a type."""
        while True:
            event = await self.next()
            if event["type"] == kind:
                return event

    async def until_warm(self, num_tokens: int) -> Event:
        """Receive events until so many tokens of the prompt are computed."""
        while True:
            event = await self.until("input_text.computed")
            if event["warm_tokens"] >= num_tokens:
                return event

    async def error(self) -> Event:
        """Receive events up to an error; return what it says."""
        error: Event = (await self.until("error"))["error"]
        return error

    async def closed(self) -> int | None:
        """Receive events until the server closes the connection; return its code."""
        with suppress(ConnectionClosed):
            while True:
                await self.next()
        return self.socket.close_code

    async def type(self, text: str) -> Event:
        """Append text."""
        await self.say("input_text.append", text=text)
        return await self.until("input_text.appended")

    async def commit(self) -> tuple[str, Event]:
        """Send the text off; return the answer and what was said at its end."""
        await self.say("input_text.commit")
        before = len(self.seen)
        done = await self.until("response.done")
        deltas = [one for one in self.seen[before:] if one["type"] == "response.output_text.delta"]
        return "".join(one["delta"] for one in deltas), done


@asynccontextmanager
async def live(gateway: Gateway, query: str = "", **options: Any) -> AsyncIterator[LiveClient]:
    """Open a connection and a session."""
    url = httpx.URL(gateway.url)
    address = f"ws://{url.host}:{url.port}/v1/realtime{query}"
    async with connect(address, proxy=None, **options) as socket:
        yield LiveClient(socket)


async def is_usable(client: LiveClient) -> None:
    """The session takes text and answers it."""
    await client.say("input_text.clear")
    await client.until("input_text.cleared")
    await client.type("Name three colours.")
    answer, done = await client.commit()
    assert done["response"]["status"] == "completed"
    assert answer
