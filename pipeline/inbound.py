"""Reads one client request: body within its limits, and the few fields the gateway acts on.

Everything else in the body is the engine's business: its bytes pass through as they are, and the
whole body does where no field of ours has to be taken out or put in.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from headstart.configs.settings import GatewaySettings
from headstart.pipeline.answer_form import check_form
from headstart.pipeline.body_fields import Fields, Options, read_fields
from headstart.pipeline.embedded import check_inputs
from headstart.pipeline.guard import caller_of
from headstart.pipeline.input_language import InputLanguages
from headstart.stages.errors import BadRequest, Overloaded, PayloadTooLarge, RequestTimeout
from headstart.stages.routing import Wanted

if TYPE_CHECKING:
    from headstart.stages.shared_room import SharedRoom

__all__ = ["Inbound", "Salting", "read", "read_body", "understand"]

_FORWARDED_HEADERS = ("content-type", "traceparent", "tracestate", "x-request-id")

_EMBEDDINGS = "/v1/embeddings"
_DRAFTED = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_NOWHERE_DRAFTED = InputLanguages()

Salting = Callable[[str | None], str]
"""Turns the client's own cache salt, if it set one, into the one the engine gets."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """A request as the gateway understands it."""

    model: str | None
    """As the client wrote it; None where it wrote no name."""
    is_stream: bool
    """Whether it plainly asks for a streamed answer; the engine may read more words as yes."""
    options: Options
    headers: tuple[tuple[str, str], ...]
    body: bytes
    """What the engine gets."""
    wanted: Wanted = field(default_factory=Wanted)
    """What decides on the pool of its model."""


async def read(
    request: Request,
    settings: GatewaySettings,
    salting: Salting | None,
    languages: InputLanguages = _NOWHERE_DRAFTED,
) -> Inbound:
    """Read and understand a request.

    Raises:
        PayloadTooLarge: The body is over the limit.
        RequestTimeout: It did not arrive in time.
        Overloaded: There is no room for it beside all others that arrive.
        BadRequest: `headstart`, `X-Headstart-Detach`, `cache_salt` or `vllm_xargs` is malformed, or
            it wants beam search.
    """
    path = request.scope["path"]  # of the URL, which is made of `Host`, it may be another
    body = await read_body(request, settings)
    return understand(body, request.headers, salting, path, languages)


def understand(
    body: bytes,
    headers: Mapping[str, str],
    salting: Salting | None,
    path: str = "",
    languages: InputLanguages = _NOWHERE_DRAFTED,
) -> Inbound:
    """Understand a request.

    A body that is no JSON object is passed on too: the engine words that error.

    Args:
        headers: Names in lower case, or found in any case.
        salting: None leaves the salt to the client.
        path: Where it was sent.
        languages: Tells the prompt's where the request does not and its model drafts by it.

    Raises:
        BadRequest: `headstart`, `X-Headstart-Detach`, `cache_salt` or `vllm_xargs` is malformed,
            it wants beam search, an answer whose form is too much to compile, or too many
            embeddings, or it is long and not quite JSON.
    """
    fields, wanted = read_fields(body), Wanted()
    if fields is None:
        fields, options, for_engine = Fields(), Options(), body
    else:
        check_form(fields)
        if path == _EMBEDDINGS:
            check_inputs(fields)
        options = fields.headstart or Options()
        if path in _DRAFTED:
            options = languages.named(options, fields)
            wanted = languages.wanted(options, fields)
        for_engine = _for_engine(body, fields, options, salting)
    if fields.use_beam_search not in (None, False):
        # vLLM makes each step of each beam a request: none of them says what the answer cost.
        raise BadRequest("beam search is not served here", param="use_beam_search")
    if _is_asked_to_detach(headers.get("x-headstart-detach")):
        options = msgspec.structs.replace(options, detach=True)
    forwarded = tuple((name, value) for name in _FORWARDED_HEADERS if (value := headers.get(name)))
    model = fields.model if isinstance(fields.model, str) else None
    return Inbound(model, fields.stream is True, options, forwarded, for_engine, wanted)


def _is_asked_to_detach(value: str | None) -> bool:
    if value not in (None, "", "0", "1", "false", "true"):
        raise BadRequest("X-Headstart-Detach is `1`, `true`, `0` or `false`")
    return value in ("1", "true")


async def read_body(request: Request, settings: GatewaySettings) -> bytes:
    """Read a request's body.

    Raises:
        PayloadTooLarge: It is over the limit.
        RequestTimeout: It did not arrive in time.
        Overloaded: There is no room for it beside all others that arrive.
        BadRequest: The client left.
    """
    room: SharedRoom = request.app.state.bodies
    owner = caller_of(request).key_id
    limit = settings.max_body_bytes
    too_large = PayloadTooLarge(f"the body is over the limit of {limit} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise too_large
                if not room.take(owner, len(part)):
                    raise Overloaded("requests that arrive fill the memory for them; try again")
                parts.append(part)
    except TimeoutError:
        raise RequestTimeout(f"the body took longer than {settings.body_timeout_s} s") from None
    except ClientDisconnect:
        raise BadRequest("the client left before its request was complete") from None
    finally:
        room.give_back(owner, sum(map(len, parts)))
    return b"".join(parts)


def _for_engine(body: bytes, fields: Fields, options: Options, salting: Salting | None) -> bytes:
    """Return the body without the fields that are ours, and with the salt that is."""
    ours = options.engine_arguments
    if salting is None and not ours and fields.headstart is fields.priority is msgspec.UNSET:
        return body
    changes: dict[str, Any] = {"headstart": None, "priority": None}
    if salting is not None:
        changes["cache_salt"] = salting(_own_salt(fields))
    if ours:
        changes["vllm_xargs"] = _with_arguments(fields.vllm_xargs, ours)
    return _changed(body, changes)


def _own_salt(fields: Fields) -> str | None:
    if fields.cache_salt is None or (isinstance(fields.cache_salt, str) and fields.cache_salt):
        return fields.cache_salt
    raise BadRequest(
        "Parameter 'cache_salt' must be a non-empty string if provided.", param="cache_salt"
    )


def _with_arguments(theirs: Any, ours: dict[str, str]) -> dict[str, Any]:
    if theirs is None:
        return ours
    if not isinstance(theirs, dict):
        raise BadRequest("vllm_xargs must be an object", param="vllm_xargs")
    return theirs | ours


def _changed(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """Set fields of a JSON object; None takes them out."""
    try:
        tree: dict[str, Any] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        return msgspec.json.encode(_merged(tree, changes))
    except RecursionError:  # a level earlier than where the head was read
        raise BadRequest("the body is nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        # As above: what only Python's parser takes must be read the same once more.
        return json.dumps(_merged(json.loads(body), changes)).encode()
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None
    except ValueError:
        return body  # which the engine, with the same parser, cannot read either


def _merged(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in changes.items():
        if value is None:
            tree.pop(name, None)
        else:
            tree[name] = value
    return tree
