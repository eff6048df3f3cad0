"""The one place where an error becomes an HTTP answer, in the shape OpenAI's clients read."""

import math
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from headstart.monitoring.labels import Refusal
from headstart.stages.errors import HeadstartError, RequestTimeout, Unauthenticated

__all__ = [
    "HANDLERS",
    "error_body",
    "error_headers",
    "error_object",
    "error_response",
    "live_error",
    "shortened",
]

_MOST_QUOTED = 200
"""Characters."""
_LIVE_PATH = "/v1/live"
_NO_RETRY = {"x-should-retry": "false"}


def error_body(error: HeadstartError) -> bytes:
    """JSON that says what went wrong, as vLLM words it."""
    return _encoded(error_object(error))


def error_object(error: HeadstartError) -> dict[str, Any]:
    """What that JSON's `error` holds."""
    return _object(error.message, error.kind, error.param, error.code)


def live_error(error: HeadstartError) -> dict[str, Any]:
    """The same of a live prompt: its `code` is a stable word on every carrier."""
    return _object(error.message, error.kind, error.param, error.word)


def error_response(error: HeadstartError, path: str = "") -> Response:
    """Answer a request that failed before its first byte.

    Args:
        path: That it was for.
    """
    is_live = path.startswith(_LIVE_PATH)
    body = _encoded(live_error(error)) if is_live else error_body(error)
    return Response(body, error.http_status, error_headers(error), "application/json")


def error_headers(error: HeadstartError) -> dict[str, str]:
    """Return the headers that tell a client whether and when to ask again."""
    if error.is_retryable:
        return {"retry-after": str(math.ceil(error.retry_after_s))}
    # OpenAI's clients ask again after a 409 or a 500 unless told not to.
    asks_for_key = {"www-authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
    # The rest of such a request may still come, and would keep the connection waiting.
    closing = {"connection": "close"} if isinstance(error, RequestTimeout) else {}
    return _NO_RETRY | asks_for_key | closing


def shortened(text: str) -> str:
    """Return what of a client's own words is said back to it."""
    return text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}…"


def _encoded(error: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"error": error})


def _object(message: str, kind: str, param: str | None, code: int | str) -> dict[str, Any]:
    # What a client wrote is quoted, and may be half a surrogate pair, which UTF-8 has no bytes for.
    message = message.encode("utf-8", "backslashreplace").decode()
    return {"message": message, "type": kind, "param": param, "code": code}


async def _headstart_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HeadstartError)
    if (refusal := Refusal.of(error)) is not None:
        request.app.state.refused(refusal)
    return error_response(error, request.scope["path"])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    request.app.state.refused(Refusal.NOT_FOUND)
    # vLLM too calls the framework's errors by the phrase of their status.
    kind = HTTPStatus(error.status_code).phrase
    body = _encoded(_object(error.detail, kind, None, error.status_code))
    return Response(body, error.status_code, error.headers, "application/json")


async def _unexpected(_request: Request, _error: Exception) -> Response:
    message = "internal error; the gateway's log has the details"
    body = _encoded(_object(message, "InternalServerError", None, 500))
    return Response(body, 500, media_type="application/json")


HANDLERS: dict[Any, Any] = {
    HeadstartError: _headstart_error,
    HTTPException: _http_error,
    Exception: _unexpected,
}
"""For Starlette's `exception_handlers`."""
