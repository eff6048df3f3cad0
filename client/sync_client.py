"""The same client without `await`: an event loop of its own, in a thread of its own."""

import atexit
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

import anyio
import openai
from anyio.from_thread import BlockingPortal
from openai.pagination import SyncPage
from openai.types import Model

from headstart.client.answer import AsyncAnswer
from headstart.client.async_client import AsyncClient, Requests
from headstart.client.live import AsyncLivePrompt
from headstart.client.live_state import Computed, ComputedAhead, LiveState, Reasoning
from headstart.client.models import PATH, path_of

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

__all__ = ["Answer", "Client", "LivePrompt"]

Whole = TypeVar("Whole", bound=openai.BaseModel)
Chunk = TypeVar("Chunk", bound=openai.BaseModel)


class Client:
    """Talks to one gateway; takes what `AsyncClient` takes.

    with Client("http://127.0.0.1:8000") as client:
        for chunk in client.completions.create(model="tiny", prompt="Hello", stream=True):
            print(chunk.choices[0].text, end="")
    """

    def __init__(self, base_url: str = "http://127.0.0.1:8000", **options: Any) -> None:
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(_portal())
        self._is_closed = False
        self._client = self._portal.call(_made, base_url, options)
        self.chat = _Chat(self._portal, self._client)
        self.completions = BlockingRequests(self._portal, self._client.completions)
        self.models = Models(self._portal, self._client)
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def live(self, **session: Any) -> "LivePrompt":
        """Begin a prompt that is sent as it is typed; takes what `AsyncClient.live` takes."""
        return LivePrompt(self._portal, self._portal.call(_live, self._client, session))

    def close(self) -> None:
        """Stop every answer that is still being read, close the connections, end the thread.

        Once is enough, and again does no harm; whatever else is called then raises `RuntimeError`.
        The end of the program does it too.
        """
        if not self._is_closed:
            self._is_closed = True
            atexit.unregister(self.close)
            with self._stack:
                self._portal.call(self._client.close)


class Answer(Generic[Chunk]):
    """Yields the chunks of one streamed answer; see `AsyncAnswer`."""

    def __init__(self, portal: BlockingPortal, answer: AsyncAnswer[Chunk]) -> None:
        self._portal = portal
        self._answer = answer

    @property
    def id(self) -> str:
        """The gateway's id of the answer."""
        return self._answer.id

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        """Return the next chunk.

        Raises:
            HeadstartError: The answer failed, was cancelled by somebody else, or cannot be had.
        """
        chunk = self._portal.call(_next, self._answer)
        if chunk is None:
            raise StopIteration
        return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading, and stop the answer unless it has been read to its end."""
        self._portal.call(self._answer.close)

    def cancel(self) -> None:
        """Stop the answer.

        Raises:
            EngineUnavailable: The gateway could not be told.
        """
        self._portal.call(self._answer.cancel)


class LivePrompt:
    """One prompt that is sent as it is typed; see `AsyncLivePrompt`."""

    def __init__(self, portal: BlockingPortal, prompt: AsyncLivePrompt) -> None:
        self._portal = portal
        self._prompt = prompt

    @property
    def id(self) -> str:
        """The gateway's id of the session."""
        return self._prompt.id

    @property
    def text(self) -> str:
        """What is typed; after a refusal, what the gateway has."""
        return self._prompt.text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, text: str) -> None:
        """Add text at the end."""
        self._portal.call(self._prompt.append, text)

    def replace(self, start: int, end: int, text: str) -> None:
        """Put text in the place of the code points from `start` up to `end`."""
        self._portal.call(self._prompt.replace, start, end, text)

    def clear(self) -> None:
        """Forget the text."""
        self._portal.call(self._prompt.clear)

    def computed(self) -> Computed:
        """Ask how much is computed."""
        return self._portal.call(self._prompt.computed)

    def computed_ahead(self) -> ComputedAhead | None:
        """Ask what was computed ahead for the latest answer."""
        return self._portal.call(self._prompt.computed_ahead)

    def reasoning(self) -> Reasoning | None:
        """Ask what has been thought."""
        return self._portal.call(self._prompt.reasoning)

    def state(self) -> LiveState:
        """Ask for all there is of the session."""
        return self._portal.call(self._prompt.state)

    def update(self, **session: Any) -> None:
        """Change what comes before the text, or how it is answered."""
        self._portal.call(partial(self._prompt.update, **session))

    def commit(self) -> "Answer[ChatCompletionChunk]":
        """Send the text off."""
        return Answer(self._portal, self._portal.call(self._prompt.commit))

    def cancel(self) -> None:
        """Stop the answer, or the commit that waits for a thought."""
        self._portal.call(self._prompt.cancel)

    def close(self) -> None:
        """End the session."""
        self._portal.call(self._prompt.close)


class BlockingRequests(Generic[Whole, Chunk]):
    """One of the gateway's routes; made by `Client`."""

    def __init__(self, portal: BlockingPortal, requests: Requests[Whole, Chunk]) -> None:
        self._portal = portal
        self._requests = requests

    @overload
    def create(self, *, stream: Literal[True], **fields: Any) -> Answer[Chunk]: ...

    @overload
    def create(self, *, stream: Literal[False] = False, **fields: Any) -> Whole: ...

    def create(self, *, stream: bool = False, **fields: Any) -> Whole | Answer[Chunk]:
        """Ask for an answer; takes what the asynchronous `create` takes.

        Raises:
            HeadstartError: It is refused, or nobody answers.
        """
        if not stream:
            whole: Whole = self._portal.call(_whole, self._requests, fields)
            return whole
        return Answer(self._portal, self._portal.call(_streamed, self._requests, fields))


class Models:
    """The models that one may ask; made by `Client`."""

    def __init__(self, portal: BlockingPortal, client: AsyncClient) -> None:
        self._portal = portal
        self._client = client

    def list(self, *, extra_headers: dict[str, str] | None = None) -> SyncPage[Model]:
        """List all that the key may use; the page yields them.

        Raises:
            HeadstartError: It is refused, or nobody answers.
        """
        found = self._portal.call(self._client.fetch, PATH, extra_headers or {})
        return SyncPage[Model].model_validate_json(found)

    def retrieve(self, model: str, *, extra_headers: dict[str, str] | None = None) -> Model:
        """Describe one model.

        Raises:
            HeadstartError: There is none of that name, or nobody answers.
        """
        found = self._portal.call(self._client.fetch, path_of(model), extra_headers or {})
        return Model.model_validate_json(found)


class _Chat:
    def __init__(self, portal: BlockingPortal, client: AsyncClient) -> None:
        self.completions: BlockingRequests[ChatCompletion, ChatCompletionChunk] = BlockingRequests(
            portal, client.chat.completions
        )


@contextmanager
def _portal() -> Iterator[BlockingPortal]:
    """An event loop in a thread of its own; no program waits for it at its end."""
    # anyio's own `start_blocking_portal` has one that every program does wait for.
    opened: Future[BlockingPortal] = Future()
    thread = Thread(target=anyio.run, args=(_serve, opened), name="headstart client", daemon=True)
    thread.start()
    portal = opened.result()
    try:
        yield portal
    finally:
        portal.call(portal.stop)
        thread.join()


async def _serve(opened: Future[BlockingPortal]) -> None:
    async with BlockingPortal() as portal:
        opened.set_result(portal)
        await portal.sleep_until_stopped()


async def _made(base_url: str, options: dict[str, Any]) -> AsyncClient:
    return AsyncClient(base_url, **options)


async def _live(client: AsyncClient, session: dict[str, Any]) -> AsyncLivePrompt:
    return await client.live(**session)


async def _whole(requests: Requests[Whole, Chunk], fields: dict[str, Any]) -> Whole:
    whole: Whole = await requests.create(**fields)
    return whole


async def _streamed(requests: Requests[Whole, Chunk], fields: dict[str, Any]) -> AsyncAnswer[Chunk]:
    return await requests.create(stream=True, **fields)


async def _next(answer: AsyncAnswer[Chunk]) -> Chunk | None:
    return await anext(answer, None)
