"""What a gateway serves: `models` as the `openai` package has it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any
from urllib.parse import quote

from openai.pagination import AsyncPage
from openai.types import Model

from headstart.stages.errors import BadRequest

__all__ = ["PATH", "AsyncModels", "Listing", "path_of"]

Fetch = Callable[[str, dict[str, str]], Awaitable[bytes]]
"""Reads what a path gives, asked with some headers."""

PATH = "/v1/models"


class AsyncModels:
    """The models that one may ask; made by `AsyncClient`."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def list(self, *, extra_headers: dict[str, str] | None = None) -> "Listing":
        """List all that the key may use: awaited, the page of them; iterated over, the models.

        Args:
            extra_headers: Sent along.

        Raises:
            HeadstartError: Where it is awaited: it is refused, or nobody answers.
        """
        return Listing(self._fetch, extra_headers or {})

    async def retrieve(self, model: str, *, extra_headers: dict[str, str] | None = None) -> Model:
        """Describe one model.

        Raises:
            HeadstartError: There is none of that name, or nobody answers.
        """
        return Model.model_validate_json(await self._fetch(path_of(model), extra_headers or {}))


class Listing:
    """A list of models, asked for when it is awaited or iterated over."""

    def __init__(self, fetch: Fetch, headers: dict[str, str]) -> None:
        self._fetch = fetch
        self._headers = headers

    def __await__(self) -> Generator[Any, None, AsyncPage[Model]]:
        return self._page().__await__()

    async def __aiter__(self) -> AsyncIterator[Model]:
        async for model in await self._page():
            yield model

    async def _page(self) -> AsyncPage[Model]:
        return AsyncPage[Model].model_validate_json(await self._fetch(PATH, self._headers))


def path_of(model: str) -> str:
    """Where a model is described.

    Raises:
        BadRequest: No model has such a name: the path would be another's.
    """
    if model in ("", ".", ".."):
        raise BadRequest(f"model: {model!r} is no model's name", param="model")
    return f"{PATH}/{quote(model, safe='')}"
