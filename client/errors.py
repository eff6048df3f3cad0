"""A gateway's error answers, as the classes of `stages.errors` that they were."""

from collections.abc import Iterator

import httpx
import msgspec

from headstart.stages.errors import (
    ClientError,
    ContextLengthExceeded,
    EngineError,
    HeadstartError,
    LiveRefused,
    ModelNotFound,
)

__all__ = ["error_in", "error_of", "is_lost", "unreachable"]

_MAX_SHOWN = 300
_AS_THEIR_BASE = (ContextLengthExceeded, ModelNotFound)
"""Refusals that say no more than those of their base."""


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""
    param: str | None = None
    code: int | str | None = None


class _Body(msgspec.Struct):
    error: _Error


def error_of(status: int, body: bytes) -> HeadstartError:
    """Turn a refusal into the error it stands for."""
    try:
        told = msgspec.json.decode(body, type=_Body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = _Error(f"HTTP {status}: {body[:_MAX_SHOWN].decode('utf-8', 'replace')}")
    return _error(told, status)


def error_in(payload: bytes) -> HeadstartError | None:
    """The error that an event of an answer tells of, if it tells of one."""
    if not payload.startswith(b'{"error"'):
        return None
    try:
        told = msgspec.json.decode(payload, type=_Body).error
    except msgspec.DecodeError:
        return None
    return _error(told, told.code if isinstance(told.code, int) else 500)


def is_lost(error: HeadstartError) -> bool:
    """Whether nobody answered, so that nobody knows whether the request was taken."""
    return isinstance(error.__cause__, httpx.HTTPError | TimeoutError)


def unreachable(error: httpx.HTTPError | OSError) -> str:
    """Say why nobody answered, for an error's message."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _error(told: _Error, status: int) -> HeadstartError:
    for kind in _tree(HeadstartError):
        if kind in _AS_THEIR_BASE:
            continue
        if (kind.http_status, kind.kind) == (status, told.type):
            if issubclass(kind, LiveRefused):
                return kind(told.message, param=told.param, code=str(told.code))
            return kind(told.message, param=told.param)
    fallback = ClientError if status < httpx.codes.INTERNAL_SERVER_ERROR else EngineError
    return fallback(told.message or f"HTTP {status}", param=told.param)


def _tree(root: type[HeadstartError]) -> Iterator[type[HeadstartError]]:
    """Every class below, the most particular first, in the order in which they are written."""
    for kind in root.__subclasses__():
        yield from _tree(kind)
        yield kind
