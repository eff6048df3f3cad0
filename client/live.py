"""A prompt that is sent as it is typed, so that it is computed by the time it is sent off."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import httpx
import msgspec
from openai.types.chat import ChatCompletionChunk

from headstart.client.answer import AsyncAnswer
from headstart.stages.errors import HeadstartError

__all__ = ["Ask", "AsyncLivePrompt", "Computed"]

Ask = Callable[[str, str, dict[str, Any]], Awaitable[httpx.Response]]
"""Sends a request: method, path, body."""


class Computed(msgspec.Struct, frozen=True):
    """How much of the prompt the server has computed."""

    version: int
    """Of the text that it has looked at last."""
    prompt_tokens: int
    stable_tokens: int
    """How many of them further text cannot change."""
    warm_tokens: int
    """How many of those need not be computed any more."""


class _State(msgspec.Struct):
    id: str
    version: int
    num_chars: int
    computed: Computed


class AsyncLivePrompt:
    """One prompt, and the conversation that it becomes; made by `AsyncClient.live`.

        async with await client.live(model="tiny", instructions="Be brief.") as prompt:
            await prompt.append("What is the capital of ")
            await prompt.append("France?")
            async for chunk in await prompt.commit():
                print(chunk.choices[0].delta.content or "", end="")

    Edits may be made one after another without waiting: those that are made while others are under
    way go together. Positions count code points.

    Args:
        ask: Sends a request.
        read: Reads the answer that a response begins.
        state: What the server said of the new session.
    """

    def __init__(
        self,
        ask: Ask,
        read: Callable[[httpx.Response], AsyncAnswer[ChatCompletionChunk]],
        state: httpx.Response,
    ) -> None:
        self._ask = ask
        self._read = read
        self._state = msgspec.json.decode(state.content, type=_State)
        self._path = f"/v1/live/{self._state.id}"
        self._unsent: list[dict[str, Any]] = []
        self._sending = asyncio.Lock()

    @property
    def id(self) -> str:
        """The gateway's id of the session; not a credential."""
        return self._state.id

    @property
    def version(self) -> int:
        """Edits that the server has."""
        return self._state.version

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def append(self, text: str) -> None:
        """Add text at the end.

        Raises:
            HeadstartError: It is refused, and so is what was to follow it.
        """
        await self._edit({"type": "input_text.append", "text": text})

    async def replace(self, start: int, end: int, text: str) -> None:
        """Put text in the place of the code points from `start` up to `end`.

        Raises:
            HeadstartError: As for `append`.
        """
        await self._edit({"type": "input_text.replace", "start": start, "end": end, "text": text})

    async def clear(self) -> None:
        """Forget the text.

        Raises:
            HeadstartError: As for `append`.
        """
        await self._edit({"type": "input_text.clear"})

    async def computed(self) -> Computed:
        """Ask how much is computed.

        Raises:
            HeadstartError: The session is gone.
        """
        self._take(await self._ask("GET", self._path, {}))
        return self._state.computed

    async def commit(self) -> AsyncAnswer[ChatCompletionChunk]:
        """Send the text off; the session goes on when the answer is over.

        Raises:
            HeadstartError: It is refused; the text is still there.
        """
        async with self._sending:
            await self._send()
            return self._read(await self._ask("POST", f"{self._path}/commit", {}))

    async def close(self) -> None:
        """End the session, which the server then forgets; it does so by itself after a while."""
        try:
            await self._ask("DELETE", self._path, {})
        except HeadstartError:
            return

    async def _edit(self, edit: dict[str, Any]) -> None:
        self._unsent.append(edit)
        async with self._sending:
            if any(one is edit for one in self._unsent):  # else it went with one before it
                await self._send()

    async def _send(self) -> None:
        edits, self._unsent = self._unsent, []
        if edits:
            self._take(await self._ask("PATCH", self._path, {"edits": edits}))

    def _take(self, response: httpx.Response) -> None:
        self._state = msgspec.json.decode(response.content, type=_State)
