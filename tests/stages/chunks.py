"""Stream chunks as vLLM writes them: the same fields, in the same order, by the same serialiser.

vLLM builds pydantic models and dumps what was set. tests/golden holds its own chunks; these stand
in for them where any text, name or number may occur.
"""

from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from headstart.stages.frames import Frame, StreamHeader, decode_frame, decode_header, encode
from headstart.stages.frames import record_bounds as bounds
from headstart.stages.sse import TakeTokens, parser_of, project

ID, MODEL, CREATED = "chatcmpl-1", "tiny", 1_700_000_000


class Delta(BaseModel):
    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] = []

    @model_serializer(mode="wrap")
    def _without_empty_tool_calls(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        if not fields.get("tool_calls"):
            fields.pop("tool_calls", None)
        return fields


class ChatChoice(BaseModel):
    index: int
    delta: Delta
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None


class Chunk(BaseModel):
    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice] | list[CompletionChoice]
    usage: dict[str, int] | None = None


def chat_choice(delta: Delta, index: int = 0, **extra: Any) -> ChatChoice:
    """A choice in the middle of a chat answer; `extra` sets further fields."""
    fields = {"logprobs": None, "finish_reason": None, "token_ids": None} | extra
    return ChatChoice(index=index, delta=delta, **fields)


def completion_choice(text: str, index: int = 0, **extra: Any) -> CompletionChoice:
    """A choice in the middle of a completion; `extra` sets further fields."""
    unset = ("logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids")
    return CompletionChoice(index=index, text=text, **(dict.fromkeys(unset) | extra))


def payload(
    *choices: ChatChoice | CompletionChoice,
    response_id: str = ID,
    model: str = MODEL,
    created: int = CREATED,
    **extra: Any,
) -> bytes:
    """The payload of one event, as vLLM serialises it."""
    is_completion = bool(choices) and isinstance(choices[0], CompletionChoice)
    chunk = Chunk(
        id=response_id,
        object="text_completion" if is_completion else "chat.completion.chunk",
        created=created,
        model=model,
        choices=list(choices),
        **extra,
    )
    return chunk.model_dump_json(exclude_unset=True).encode()


def content(text: str, index: int = 0) -> bytes:
    """The payload of a plain chat delta."""
    return payload(chat_choice(Delta(content=text), index))


def no_tokens(choice: int) -> tuple[int, ...]:
    """A `TakeTokens` that has none."""
    return ()


def through_the_log(
    api: str, payloads: list[bytes], take: TakeTokens = no_tokens
) -> tuple[list[Frame], list[bytes]]:
    """Parse payloads, encode and decode what comes of them, and project that.

    Returns:
        The decoded frames and their events.
    """
    parser = parser_of(api, 200, "text/event-stream")
    frames = [_recoded(parser.parse(payload, take, at_us=1)) for payload in payloads]
    assert parser.header is not None
    header = decode_header(_body(parser.header))
    return frames, [project(header, frame) for frame in frames]


def _recoded(frame: Frame) -> Frame:
    recoded = decode_frame(_body(frame))
    assert recoded == frame
    return recoded


def _body(record: StreamHeader | Frame) -> bytes:
    data = encode(record)
    ((start, stop),) = bounds(data)
    return data[start:stop]
