"""The one place where an error becomes an HTTP answer, in the shape OpenAI's clients read."""

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from headstart.stages.errors import EngineFailed, EngineLost, HeadstartError
from headstart.stages.mirror import Failure

__all__ = ["HANDLERS", "error_body", "error_response", "from_failure"]

_RETRY_AFTER_S = 1
_STATUS_KINDS = {404: "NotFoundError", 405: "MethodNotAllowedError"}


def error_body(error: HeadstartError) -> bytes:
    """JSON that says what went wrong, as vLLM words it."""
    return _body(error.message, error.kind, error.param, error.http_status)


def error_response(error: HeadstartError) -> Response:
    """Answer a request that failed before its first byte."""
    headers = {"retry-after": str(_RETRY_AFTER_S)} if error.is_retryable else None
    return Response(error_body(error), error.http_status, headers, "application/json")


def from_failure(failure: Failure) -> HeadstartError:
    """Rebuild the error with which a stream ended on the replica's side."""
    return (EngineLost if failure.is_retryable else EngineFailed)(failure.message)


def _body(message: str, kind: str, param: str | None, status: int) -> bytes:
    return msgspec.json.encode(
        {"error": {"message": message, "type": kind, "param": param, "code": status}}
    )


async def _headstart_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HeadstartError)
    return error_response(error)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _STATUS_KINDS.get(error.status_code, "BadRequestError")
    body = _body(error.detail, kind, None, error.status_code)
    return Response(body, error.status_code, error.headers, "application/json")


async def _unexpected(_request: Request, _error: Exception) -> Response:
    body = _body(
        "internal error; the gateway's log has the details", "InternalServerError", None, 500
    )
    return Response(body, 500, media_type="application/json")


HANDLERS: dict[Any, Any] = {
    HeadstartError: _headstart_error,
    HTTPException: _http_error,
    Exception: _unexpected,
}
"""For Starlette's `exception_handlers`."""
