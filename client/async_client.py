"""The asynchronous client: `openai`'s calls and objects, on a connection that may fail."""

import asyncio
from contextlib import suppress
from typing import Any, Generic, Literal, Self, TypeVar, overload

import httpx
import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from headstart.client.answer import AsyncAnswer
from headstart.client.carriers import QUIET_S, EventCarrier, EventStream, Http, Polling, events_of
from headstart.client.errors import error_of, unreachable
from headstart.client.live import AsyncLivePrompt
from headstart.client.live_wire import session_of
from headstart.client.models import AsyncModels
from headstart.client.offered import Offered, can_read_datagrams
from headstart.client.records import Connect, Records, Sessions
from headstart.stages.carrier_ladder import LadderLimits, Rung
from headstart.stages.errors import EngineUnavailable, RequestTimeout

__all__ = ["AsyncClient"]

Whole = TypeVar("Whole", bound=openai.BaseModel)
Chunk = TypeVar("Chunk", bound=openai.BaseModel)

_DETACHED = {"x-headstart-detach": "1"}
_SPARE_S = 20.0
"""For which a connection is kept for the next question; less than the gateway's `keep_alive_s`."""


class AsyncClient:
    """Talks to one gateway.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            answer = await client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "Hello"}], stream=True
            )
            async for chunk in answer:
                print(chunk.choices[0].delta.content or "", end="")

    Every streamed answer is asked to outlive its connection, so that it can be resumed.

    Args:
        base_url: Of the gateway, with or without `/v1`.
        api_key: Sent as a bearer token.
        timeout_s: How long an answer may take to begin.
        quiet_s: Silence after which a connection is taken for dead; longer than the gateway's
            `heartbeat_s`.
        limits: How long a lost answer is asked for, and how datagrams are raced.
        datagrams: Whether answers may come by datagrams where the gateway offers them and the extra
            `quic` is installed; or what opens a session for them.
        http: Used instead of a client of its own, with its own base address and headers.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        quiet_s: float = QUIET_S,
        limits: LadderLimits | None = None,
        datagrams: Connect[Any] | bool = True,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._http = http or httpx.AsyncClient(
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            headers=headers,
            timeout=httpx.Timeout(None, connect=10.0),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_SPARE_S),
        )
        self._is_own = http is None
        self._timeout_s = timeout_s
        self._quiet_s = quiet_s
        self._limits = limits
        if datagrams is True:
            datagrams = can_read_datagrams() and Offered(self._http)
        self._sessions = None if datagrams is False else Sessions(datagrams)
        self._answers: set[AsyncAnswer[Any]] = set()
        self._spare: asyncio.Task[None] | None = None
        self._spare_at = -_SPARE_S
        self._is_closing = False
        self.chat = _Chat(self)
        self.completions = Requests(self, "/v1/completions", Completion, Completion)
        self.models = AsyncModels(self.fetch)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop every answer that is still being read, and close the connections.

        What goes wrong with one answer is raised when all is closed.
        """
        self._is_closing = True
        closing = (answer.close() for answer in self._answers)
        closed = await asyncio.gather(*closing, return_exceptions=True)
        if self._spare is not None:
            self._spare.cancel()
            await asyncio.gather(self._spare, return_exceptions=True)
        if self._sessions is not None:
            await self._sessions.close()
        if self._is_own:
            await self._http.aclose()
        for error in closed:
            if error is not None:
                raise error

    async def live(
        self,
        *,
        model: str | None = None,
        instructions: str | None = None,
        messages: list[dict[str, Any]] | None = None,
        tools: list[dict[str, Any]] | None = None,
        livemind: dict[str, Any] | None = None,
        private_cache: bool = False,
        **sampling: Any,
    ) -> AsyncLivePrompt:
        """Begin a prompt that is sent as it is typed.

        Args:
            instructions: The system message.
            messages: The conversation so far.
            tools: As for a chat request.
            livemind: How a model thinks about the text while it is typed, `{}` as it does by
                itself; None has it think nothing. Thinking changes answers.
            private_cache: Whether no other request may find in a cache what is computed for it.
            sampling: Its further fields, such as `temperature`.

        Raises:
            HeadstartError: It is refused, or nobody answers.
        """
        fields = {
            "model": model,
            "instructions": instructions,
            "messages": messages,
            "tools": tools,
            "livemind": livemind,
            "private_cache": private_cache or None,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        session = session_of(given | sampling)
        self.prepare()
        begun = await self._ask("POST", "/v1/live", {"session": session})
        return AsyncLivePrompt(
            self._ask,
            lambda one: self.read(one, ChatCompletionChunk),
            begun,
            self._limits,
            self._have_spare,
        )

    async def _ask(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        """Send a request of a live prompt; all but an answer's beginning is read whole."""
        if path.startswith("/v1/streams/") or path.endswith("/commit"):
            return await self.send(method, path, body, {})
        try:
            async with asyncio.timeout(self._quiet_s):  # the gateway says what it has at once
                response = await self.send(method, path, body, {})
                await _whole(response)
        except TimeoutError as error:
            raise EngineUnavailable(f"nobody answered within {self._quiet_s:g} s") from error
        return response

    async def send(
        self, method: str, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> httpx.Response:
        """Send a request and return its response, of which the body is still to be read.

        Raises:
            HeadstartError: It is refused, or nobody answers.
        """
        request = self._http.build_request(method, path, json=body or None, headers=headers)
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.send(request, stream=True)
                if response.is_success:
                    return response
                try:
                    refusal = await response.aread()
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise RequestTimeout(f"no answer began within {self._timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise EngineUnavailable(
                f"the gateway cannot be reached: {unreachable(error)}"
            ) from error
        raise error_of(response.status_code, refusal)

    async def fetch(self, path: str, headers: dict[str, str]) -> bytes:
        """Read all of what a path gives.

        Raises:
            HeadstartError: It is refused, or nobody answers.
        """
        return await _whole(await self.send("GET", path, {}, headers))

    def prepare(self) -> None:
        """Begin to open what an answer might be read by, while it is being asked for."""
        if self._sessions is not None:
            self._sessions.prepare()

    def read(
        self, response: httpx.Response, chunk_type: type[Chunk], *, is_timed: bool = False
    ) -> AsyncAnswer[Chunk]:
        """Read the answer that a response begins, with the key that it was asked for with.

        Args:
            is_timed: Whether a chunk with timings was asked for, which no other carrier has.
        """
        key = response.request.headers.get("authorization")
        headers = () if key is None else (("authorization", key),)
        http = Http(self._http, headers, self._quiet_s)
        carriers: dict[Rung, EventCarrier] = {Rung.SSE: EventStream(http), Rung.POLL: Polling(http)}
        stops = [http.stop]
        if self._sessions is not None:
            records = Records(self._sessions, headers)
            stops.append(records.stop)
            if not is_timed:
                carriers[Rung.DATAGRAMS] = records
        answer = AsyncAnswer(
            stops,
            response.headers.get("x-headstart-stream", ""),
            carriers,
            events_of(response, self._quiet_s),
            chunk_type,
            self._limits,
            self._over,
        )
        self._answers.add(answer)
        return answer

    def _over(self, answer: AsyncAnswer[Any]) -> None:
        self._answers.discard(answer)
        if Rung.SSE not in answer.rungs:  # its connection was left, too
            self._reconnect()

    def _have_spare(self) -> None:
        """Have a second connection beside one that is being used, open before it is needed."""
        now = asyncio.get_running_loop().time()
        if now - self._spare_at > _SPARE_S / 2:
            self._spare_at = now
            self._reconnect()

    def _reconnect(self) -> None:
        if not self._is_closing and (self._spare is None or self._spare.done()):
            self._spare = asyncio.get_running_loop().create_task(self._greet(), name="spare")

    async def _greet(self) -> None:
        """Say something, for which a connection is opened where none is free."""
        with suppress(httpx.HTTPError):
            await self._http.get("/healthz")


class Requests(Generic[Whole, Chunk]):
    """One of the gateway's routes; made by `AsyncClient`."""

    def __init__(
        self, client: AsyncClient, path: str, whole_type: type[Whole], chunk_type: type[Chunk]
    ) -> None:
        self._client = client
        self._path = path
        self._whole_type = whole_type
        self._chunk_type = chunk_type

    @overload
    async def create(
        self,
        *,
        stream: Literal[True],
        extra_body: dict[str, Any] | None = None,
        extra_headers: dict[str, str] | None = None,
        **body: Any,
    ) -> AsyncAnswer[Chunk]: ...

    @overload
    async def create(
        self,
        *,
        stream: Literal[False] = False,
        extra_body: dict[str, Any] | None = None,
        extra_headers: dict[str, str] | None = None,
        **body: Any,
    ) -> Whole: ...

    async def create(
        self,
        *,
        stream: bool = False,
        extra_body: dict[str, Any] | None = None,
        extra_headers: dict[str, str] | None = None,
        **body: Any,
    ) -> Whole | AsyncAnswer[Chunk]:
        """Ask for an answer, with the fields of OpenAI's API.

        Args:
            stream: Whether to return at its beginning, with something to iterate over.
            extra_body: Fields that OpenAI's API does not have, such as `headstart`.
            extra_headers: Sent along.
            body: All other fields.

        Raises:
            HeadstartError: It is refused, or nobody answers.
        """
        asked = {**body, **(extra_body or {})}
        headers = dict(extra_headers or {})
        if not stream:
            response = await self._client.send("POST", self._path, asked, headers)
            return self._whole_type.model_validate_json(await _whole(response))
        self._client.prepare()
        response = await self._client.send(
            "POST", self._path, asked | {"stream": True}, headers | _DETACHED
        )
        is_timed = bool((asked.get("headstart") or {}).get("timing"))
        return self._client.read(response, self._chunk_type, is_timed=is_timed)


async def _whole(response: httpx.Response) -> bytes:
    try:
        return await response.aread()
    except httpx.HTTPError as error:
        raise EngineUnavailable(f"the connection was lost: {unreachable(error)}") from error


class _Chat:
    def __init__(self, client: AsyncClient) -> None:
        self.completions = Requests(
            client, "/v1/chat/completions", ChatCompletion, ChatCompletionChunk
        )
