"""Reads one client request: body within its limits, and the few fields the gateway acts on.

Everything else in the body is the engine's business: its bytes pass through as they are, and the
whole body does where no field of ours has to be taken out or put in.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from starlette.requests import ClientDisconnect, Request

from headstart.configs.settings import GatewaySettings
from headstart.pipeline.answer_form import check_form, check_loose_form
from headstart.pipeline.guard import caller_of
from headstart.stages.errors import BadRequest, Overloaded, PayloadTooLarge, RequestTimeout
from headstart.stages.speculation import LANGUAGE_ARGUMENT, SPECULATION_ARGUMENT

if TYPE_CHECKING:
    from headstart.stages.shared_room import SharedRoom

__all__ = ["Inbound", "Options", "Salting", "read", "read_body", "understand"]

_FORWARDED_HEADERS = ("content-type", "traceparent", "tracestate", "x-request-id")

_LANGUAGE = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$"

_LOOSE_BYTES = 1 << 20
"""Longest body that is read by Python's parser where ours cannot: it takes up to 0.2 µs a byte,
twenty times as long, and all answers wait meanwhile."""

Salting = Callable[[str | None], str]
"""Turns the client's own cache salt, if it set one, into the one the engine gets."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body's `headstart` object: what a client may ask of us on top of OpenAI's API."""

    detach: bool = False
    """The answer outlives its connection and can be resumed."""
    timing: bool = False
    """The last chunk, or the body, says where the time went."""
    speculation: Literal["auto", "off", "copy", "jacobi", "drafter"] | None = None
    """How the answer is drafted; None leaves it to the model's settings."""
    language: Annotated[str, msgspec.Meta(pattern=_LANGUAGE)] | None = None
    """BCP 47 tag of the input, for whoever drafts by language."""

    @property
    def engine_arguments(self) -> dict[str, str]:
        """What of it the engine's worker has to know."""
        wanted = {SPECULATION_ARGUMENT: self.speculation, LANGUAGE_ARGUMENT: self.language}
        return {name: value for name, value in wanted.items() if value is not None}


class _Head(msgspec.Struct):
    model: Any = None
    """What is no name is for the engine to refuse."""
    stream: Any = None
    headstart: Options | msgspec.UnsetType | None = msgspec.UNSET
    priority: Any = msgspec.UNSET
    """Not the client's to set: it would put itself before all others."""
    cache_salt: Any = None
    vllm_xargs: Any = None
    """Where vLLM takes arguments for its worker; ours are put beside the client's."""
    use_beam_search: Any = None


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


_head_decoder = msgspec.json.Decoder(_Head)


async def read(request: Request, settings: GatewaySettings, salting: Salting | None) -> Inbound:
    """Read and understand a request.

    Raises:
        PayloadTooLarge: The body is over the limit.
        RequestTimeout: It did not arrive in time.
        Overloaded: There is no room for it beside all others that arrive.
        BadRequest: `headstart`, `X-Headstart-Detach`, `cache_salt` or `vllm_xargs` is malformed, or
            it wants beam search.
    """
    return understand(await read_body(request, settings), request.headers, salting)


def understand(body: bytes, headers: Mapping[str, str], salting: Salting | None) -> Inbound:
    """Understand a request.

    A body that is no JSON object is passed on too: the engine words that error.

    Args:
        headers: Names in lower case, or found in any case.
        salting: None leaves the salt to the client.

    Raises:
        BadRequest: `headstart`, `X-Headstart-Detach`, `cache_salt` or `vllm_xargs` is malformed,
            it wants beam search, or it is long and not quite JSON.
    """
    check_form(body)
    head = _read_head(body)
    if head is None:
        head, for_engine = _Head(), body
    else:
        for_engine = _for_engine(body, head, salting)
    if head.use_beam_search not in (None, False):
        # vLLM makes each step of each beam a request: none of them says what the answer cost.
        raise BadRequest("beam search is not served here", param="use_beam_search")
    options = head.headstart or Options()
    if _is_asked_to_detach(headers.get("x-headstart-detach")):
        options = msgspec.structs.replace(options, detach=True)
    forwarded = tuple((name, value) for name in _FORWARDED_HEADERS if (value := headers.get(name)))
    model = head.model if isinstance(head.model, str) else None
    return Inbound(model, head.stream is True, options, forwarded, for_engine)


def _is_asked_to_detach(value: str | None) -> bool:
    if value not in (None, "", "0", "1", "false", "true"):
        raise BadRequest("X-Headstart-Detach is `1`, `true`, `0` or `false`")
    return value in ("1", "true")


def _read_head(body: bytes) -> _Head | None:
    """Return the fields that are ours; None if the engine will not be able to read any."""
    try:
        return _head_decoder.decode(body)
    except msgspec.ValidationError as error:
        if not body.lstrip().startswith(b"{"):
            return None
        raise BadRequest(str(error)) from error
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Python's parser, which vLLM's app uses, takes what is not quite JSON: NaN, half a
        # surrogate pair, a byte order mark.
        if len(body) > _LOOSE_BYTES:
            raise BadRequest(
                f"a body of more than {_LOOSE_BYTES} bytes must be JSON to the letter: UTF-8, no "
                "NaN, no half of a surrogate pair"
            ) from None
        return _read_loosely(body)


def _read_loosely(body: bytes) -> _Head | None:
    try:
        tree = json.loads(body)
        if not isinstance(tree, dict):
            return None
        check_loose_form(tree)
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None
    except ValueError:
        return None
    # The others may have names that msgspec cannot take, and are none of our business.
    tree = {name: tree[name] for name in _Head.__struct_fields__ if name in tree}
    try:
        if isinstance(tree.get("model"), str):
            tree["model"].encode()
        return msgspec.convert(tree, _Head)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from error
    except ValueError as error:  # half a surrogate pair where msgspec wants text
        raise BadRequest("the gateway's own fields must be Unicode text") from error


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


def _for_engine(body: bytes, head: _Head, salting: Salting | None) -> bytes:
    """Return the body without the fields that are ours, and with the salt that is."""
    if salting is None and head.headstart is head.priority is msgspec.UNSET:
        return body
    changes: dict[str, Any] = {"headstart": None, "priority": None}
    if salting is not None:
        changes["cache_salt"] = salting(_own_salt(head))
    if head.headstart and (ours := head.headstart.engine_arguments):
        changes["vllm_xargs"] = _with_arguments(head.vllm_xargs, ours)
    return _changed(body, changes)


def _own_salt(head: _Head) -> str | None:
    if head.cache_salt is None or (isinstance(head.cache_salt, str) and head.cache_salt):
        return head.cache_salt
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
