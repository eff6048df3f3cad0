"""What an answer was, as the message that the conversation goes on with."""

from typing import Any

import msgspec

from headstart.cluster.stream import Stream
from headstart.stages.frames import Channel

__all__ = ["said", "tokens_of"]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_Choice]


_chunk_decoder = msgspec.json.Decoder(_Chunk)


def said(stream: Stream) -> dict[str, Any]:
    """Return the first choice of a streamed chat answer as an assistant's message."""
    texts: list[str] = []
    calls: dict[int, dict[str, Any]] = {}
    for _, frame in stream.log.frames(0):
        if frame.choice:
            continue
        if frame.channel is Channel.CONTENT:
            texts.append(frame.text)
        elif frame.channel is Channel.TOOL:
            assert frame.payload is not None  # a delta that is not plain is kept as it came
            _add(calls, _chunk_decoder.decode(frame.payload))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return message


def tokens_of(stream: Stream) -> tuple[int, ...]:
    """Return the ids of an answer's first choice."""
    frames = (frame for _, frame in stream.log.frames(0) if not frame.choice)
    return tuple(token for frame in frames for token in frame.tokens)


def _add(calls: dict[int, dict[str, Any]], chunk: _Chunk) -> None:
    for choice in chunk.choices:
        for part in choice.delta.tool_calls or ():
            empty = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            call = calls.setdefault(part.index, empty)
            call["id"] = part.id or call["id"]
            if part.function is not None:
                call["function"]["name"] += part.function.name or ""
                call["function"]["arguments"] += part.function.arguments or ""
