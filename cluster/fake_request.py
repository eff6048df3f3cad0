"""What the fake engine understands of a request, and how it refuses the rest: as vLLM 0.32 does.

vLLM's app is FastAPI, so most refusals are Pydantic's; the same checks give the same errors here.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from headstart.cluster.engine import EngineInfo
from headstart.cluster.fake_text import tokenise
from headstart.stages.errors import BadRequest, ClientError, NotFound

__all__ = ["FakeRequest", "error_body", "read"]

_JSON = "application/json"
_MAX_DETAILS = 10
_MAX_INPUT_CHARS = 200


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """A request that will be answered."""

    prompts: list[list[int]]
    """Token ids; each prompt gets a choice of its own."""
    limit: int | None
    """Most tokens of each choice; None leaves it to the engine."""
    is_streamed: bool
    has_usage_chunk: bool
    has_token_ids: bool
    cache_salt: str | None


class _Malformed(BadRequest):
    kind = "Bad Request"


class _StreamOptions(BaseModel):
    include_usage: bool | None = True


class _Body(BaseModel):
    model: str | None = None
    max_tokens: int | None = None
    n: int | None = 1
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    return_token_ids: bool | None = None
    cache_salt: Any = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    min_tokens: int = 0


class _TextPart(BaseModel):
    text: str = ""


class _Message(BaseModel):
    role: str
    content: str | list[_TextPart] | None = None


class _Chat(_Body):
    messages: list[_Message]
    max_completion_tokens: int | None = None


_TokenId = Annotated[int, Field(ge=0)]


class _Completion(_Body):
    prompt: list[_TokenId] | list[list[_TokenId]] | str | list[str] | None = None


class _Response(_Body):
    input: str | list[_Message]
    max_output_tokens: int | None = None


_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "presence_penalty": (lambda x: -2 <= x <= 2, "must be in [-2, 2]"),
    "frequency_penalty": (lambda x: -2 <= x <= 2, "must be in [-2, 2]"),
    "repetition_penalty": (lambda x: 0 < x < math.inf, "must be greater than zero"),
    "temperature": (lambda x: 0 <= x <= 2, "must be in [0, 2]"),
    "top_p": (lambda x: 0 < x <= 1, "must be in (0, 1]"),
    "top_k": (lambda x: x >= -1, "must be 0 (disable), or at least 1"),
    "min_p": (lambda x: 0 <= x <= 1, "must be in [0, 1]"),
    "min_tokens": (lambda x: x >= 0, "must be greater than or equal to 0"),
}
"""What vLLM checks of what is drawn by, in its order. The fake engine draws nothing."""

_NAMED = ("temperature", "top_p")
"""Of these, what vLLM names as `param`."""

_BODIES: dict[str, type[_Body]] = {"/v1/chat/completions": _Chat, "/v1/responses": _Response}


def read(path: str, body: bytes, info: EngineInfo, content_type: str = "") -> FakeRequest:
    """Understand a chat, completion or response request.

    Args:
        content_type: As the request names it. Without one vLLM refuses it, and this does not.

    Raises:
        BadRequest: The body is malformed or asks for something impossible.
        NotFound: It asks for another model.
    """
    asked = _parse(_BODIES.get(path, _Completion), body, content_type)
    if asked.model not in (None, "", info.model):
        raise NotFound(
            f"The model `{asked.model}` does not exist. Valid aliases: {info.model}.", param="model"
        )
    _check_options(asked)
    if isinstance(asked, _Chat):
        limit = asked.max_completion_tokens
        limit = asked.max_tokens if limit is None else limit
        prompts = [_render(asked.messages)]
    elif isinstance(asked, _Response):
        said = asked.input
        limit = asked.max_output_tokens
        prompts = [
            _render([_Message(role="user", content=said)] if isinstance(said, str) else said)
        ]
    else:
        assert isinstance(asked, _Completion)
        limit = asked.max_tokens
        prompts = _prompts(asked)
    _check_lengths(prompts, limit, info.max_model_len)
    return FakeRequest(
        prompts=prompts,
        limit=limit,
        is_streamed=bool(asked.stream),
        has_usage_chunk=bool(asked.stream_options and asked.stream_options.include_usage),
        has_token_ids=bool(asked.return_token_ids),
        cache_salt=asked.cache_salt,
    )


def error_body(error: ClientError) -> bytes:
    """Return the body that says why a request was refused."""
    fields = {
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.http_status,
    }
    return json.dumps({"error": fields}, ensure_ascii=False, separators=(",", ":")).encode()


def _parse(kind: type[_Body], body: bytes, content_type: str) -> _Body:
    if (content_type or _JSON).lower().partition(";")[0] != _JSON:
        raise _Malformed(
            "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        )
    try:
        tree = json.loads(body) if body else None
    except json.JSONDecodeError as error:
        detail = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error"}
        raise _malformed([{**detail, "input": {}, "ctx": {"error": error.msg}}]) from error
    except (ValueError, RecursionError) as error:  # FastAPI names nothing else either
        raise _Malformed("There was an error parsing the body") from error
    if tree is None:
        raise _malformed([{"type": "missing", "loc": ("body",), "msg": "Field required"}])
    try:
        return kind.model_validate(tree, from_attributes=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise _malformed([{**one, "loc": ("body", *one["loc"])} for one in details]) from error


def _malformed(details: list[dict[str, Any]]) -> _Malformed:
    lines = "".join(f"\n  {_describe(detail)}" for detail in details[:_MAX_DETAILS])
    noun = "error" if len(details) == 1 else "errors"
    param = _location(details[0]["loc"])
    return _Malformed(f"{len(details)} validation {noun}:{lines}", param=param)


def _describe(detail: dict[str, Any]) -> dict[str, Any]:
    """Shorten a Pydantic error as vLLM does: containers are counted, not shown."""
    value = detail.get("input")
    if isinstance(value, list | dict):
        shown = f"<{type(value).__name__} of {len(value)} items>"
    else:
        shown = str(value)[:_MAX_INPUT_CHARS]
    return {**detail, "loc": _location(detail["loc"]), "input": shown}


def _location(path: tuple[int | str, ...]) -> str:
    """Join the path of a value, without Pydantic's names for the options of a union."""
    return ".".join(str(part) for part in path if part != "str" and "[" not in str(part))


def _check_options(asked: _Body) -> None:
    if asked.stream_options is not None and not asked.stream:
        raise BadRequest(
            "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
            param="stream_options",
        )
    if asked.cache_salt is not None and not (
        isinstance(asked.cache_salt, str) and asked.cache_salt
    ):
        raise BadRequest(
            "Parameter 'cache_salt' must be a non-empty string if provided. (parameter=cache_salt)",
            param="cache_salt",
        )
    if asked.n is not None and asked.n < 1:
        raise BadRequest(f"n must be at least 1, got {asked.n}.")
    for name, (is_fine, rule) in _RANGES.items():
        value = getattr(asked, name)
        if value is not None and not is_fine(value):
            param = name if name in _NAMED else None
            said = f" (parameter={name}, value={value})" if param else ""
            raise BadRequest(f"{name} {rule}, got {value}.{said}", param=param)
    if isinstance(asked.stop, list) and not all(asked.stop):
        raise BadRequest("stop cannot contain an empty string.")
    if asked.n is not None and asked.n > 1:
        raise BadRequest("the fake engine gives one choice for each prompt: leave `n` out")


def _render(messages: list[_Message]) -> list[int]:
    """Apply the fake engine's chat template."""
    if not messages:
        raise BadRequest(
            "Cannot apply chat template to an empty conversation. Provide at least one message."
        )
    return tokenise(" ".join([*map(_turn, messages), "<|assistant|>"]))


def _turn(message: _Message) -> str:
    content = message.content or ""
    text = content if isinstance(content, str) else "\n".join(part.text for part in content)
    return f"<|{message.role}|> {text} <|end|>"


def _prompts(asked: _Completion) -> list[list[int]]:
    if asked.prompt is None or asked.prompt == "":
        raise BadRequest(
            "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)",
            param="prompt",
        )
    if asked.prompt == []:
        raise BadRequest("You must pass at least one prompt")
    prompts = list(_split(asked.prompt))
    if not all(prompts):
        raise BadRequest("The decoder prompt cannot be empty")
    return prompts


def _split(prompt: list[int] | list[list[int]] | str | list[str]) -> Iterator[list[int]]:
    if isinstance(prompt, str):
        yield tokenise(prompt)
        return
    ids: list[int] = []
    for item in prompt:
        if isinstance(item, int):
            ids.append(item)
        else:
            yield tokenise(item) if isinstance(item, str) else item
    if ids:
        yield ids


def _check_lengths(prompts: list[list[int]], limit: int | None, max_model_len: int) -> None:
    if limit is not None and limit < 1:
        raise BadRequest(
            f"max_tokens must be at least 1, got {limit}. (parameter=max_tokens, value={limit})",
            param="max_tokens",
        )
    if limit is not None and limit > max_model_len:
        raise BadRequest(
            f"max_tokens={limit} cannot be greater than max_model_len={max_model_len}. Please "
            f"request fewer output tokens. (parameter=max_tokens, value={limit})",
            param="max_tokens",
        )
    if (longest := max(map(len, prompts))) >= max_model_len:
        raise BadRequest(
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt "
            f"contains at least {longest} input tokens, which exceeds this limit even without any "
            "output tokens. Please reduce the length of the input prompt. "
            f"(parameter=input_tokens, value={longest})",
            param="input_tokens",
        )
