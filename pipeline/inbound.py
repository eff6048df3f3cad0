"""Reads one client request: body within its limits, and the few fields the gateway acts on.

Everything else in the body is the engine's business and passes through byte for byte.
"""

import asyncio
import json
from dataclasses import dataclass

import msgspec
from starlette.requests import ClientDisconnect, Request

from headstart.configs.settings import GatewaySettings
from headstart.stages.errors import BadRequest, PayloadTooLarge, RequestTimeout

__all__ = ["Inbound", "Options", "read"]

_FORWARDED_HEADERS = ("content-type", "traceparent", "tracestate", "x-request-id")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body's `headstart` object: what a client may ask of us on top of OpenAI's API."""

    detach: bool = False
    """The answer outlives its connection and can be resumed."""
    timing: bool = False
    """The last chunk, or the body, says where the time went."""


class _Head(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    headstart: Options | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """A request as the gateway understands it."""

    model: str | None
    """As the client wrote it; None where it wrote none."""
    is_stream: bool
    """Whether it asks for a streamed answer."""
    options: Options
    headers: tuple[tuple[str, str], ...]
    body: bytes
    """What the engine gets."""


_head_decoder = msgspec.json.Decoder(_Head)


async def read(request: Request, settings: GatewaySettings) -> Inbound:
    """Read and understand a request.

    A body that is not JSON is passed on too: the engine words that error.

    Raises:
        PayloadTooLarge: The body is over the limit.
        RequestTimeout: It did not arrive in time.
        BadRequest: `model` or `headstart` is malformed.
    """
    body = await _read_body(request, settings)
    head = _read_head(body)
    options = head.headstart or Options()
    if b'"headstart"' in body:
        body = _without_options(body)
    if request.headers.get("x-headstart-detach") == "1":
        options = msgspec.structs.replace(options, detach=True)
    headers = tuple(
        (name, value) for name in _FORWARDED_HEADERS if (value := request.headers.get(name))
    )
    return Inbound(head.model, bool(head.stream), options, headers, body)


def _read_head(body: bytes) -> _Head:
    try:
        try:
            return _head_decoder.decode(body)
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Python's parser, which vLLM's app uses, takes what is not quite JSON: NaN, half a
            # surrogate pair, a byte order mark.
            return msgspec.convert(json.loads(body), _Head)
    except msgspec.ValidationError as error:
        if not body.lstrip().startswith(b"{"):
            raise BadRequest("the body must be a JSON object") from error
        raise BadRequest(str(error)) from error
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None
    except ValueError:
        return _Head()


async def _read_body(request: Request, settings: GatewaySettings) -> bytes:
    limit = settings.max_body_bytes
    too_large = PayloadTooLarge(f"the body is over the limit of {limit} bytes")
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise RequestTimeout(f"the body took longer than {settings.body_timeout_s} s") from None
    except ClientDisconnect:
        raise BadRequest("the client left before its request was complete") from None
    return b"".join(parts)


def _without_options(body: bytes) -> bytes:
    try:
        tree = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body
    tree.pop("headstart", None)
    return msgspec.json.encode(tree)
