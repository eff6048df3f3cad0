"""Writes the fake engine's answers on `/v1/responses`; see `headstart.cluster.fake_answer`."""

import time
from typing import Any

import msgspec

from headstart.cluster.fake_answer import AnswerForm, write_body
from headstart.cluster.stream import Stream
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.mirror import StreamEnd

__all__ = ["StreamedResponse", "WholeResponse"]

_json = msgspec.json.Encoder()


class _Response(AnswerForm):
    """What both forms say at the end.

    Args:
        limit: The request's `max_output_tokens`.
    """

    def __init__(self, stream: Stream, model: str, limit: int | None) -> None:
        super().__init__(stream, "responses", model)
        self._item_id = self._id.replace("resp", "msg", 1)
        self._limit = limit
        self._texts: list[str] = []
        self._is_cut = False

    def delta(self, choice: int, tokens: tuple[int, ...], text: str, at: float) -> None:
        self._texts.append(text)

    def last_delta(
        self, choice: int, tokens: tuple[int, ...], text: str, reason: str, at: float
    ) -> None:
        self.delta(choice, tokens, text, at)
        self._is_cut = reason == "length"

    def _part(self, **more: object) -> dict[str, Any]:
        return {"annotations": [], "text": "".join(self._texts), "type": "output_text", **more}

    def _item(self, status: str) -> dict[str, Any]:
        parts = [self._part(logprobs=None)] if self._texts else []
        said = {"role": "assistant", "status": status, "type": "message", "phase": None}
        return {"id": self._item_id, "content": parts, **said}

    def _response(self, end: StreamEnd | None = None) -> dict[str, Any]:
        status = "in_progress" if end is None else "incomplete" if self._is_cut else "completed"
        return {
            "id": self._id,
            "created_at": self._created,
            "incomplete_details": {"reason": "max_output_tokens"} if self._is_cut else None,
            "instructions": None,
            "metadata": None,
            "model": self._model,
            "object": "response",
            "output": [] if end is None else [self._item("completed")],
            "parallel_tool_calls": True,
            "temperature": 0.0,
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0,
            "background": False,
            "max_output_tokens": self._limit,
            **dict.fromkeys(("max_tool_calls", "previous_response_id", "prompt", "reasoning")),
            "service_tier": "auto",
            "status": status,
            "text": None,
            "top_logprobs": None,
            "truncation": "disabled",
            "usage": None if end is None else _usage(end),
            "user": None,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            **dict.fromkeys(("kv_transfer_params", "ec_transfer_params")),
            **dict.fromkeys(("input_messages", "output_messages")),
        }


class StreamedResponse(_Response):
    """Server-sent events with names."""

    def __init__(self, stream: Stream, model: str, limit: int | None) -> None:
        super().__init__(stream, model, limit)
        self._number = 0

    def delta(self, choice: int, tokens: tuple[int, ...], text: str, at: float) -> None:
        if not self._stream.log.end:
            self._open(at)
        super().delta(choice, tokens, text, at)
        lacking = f'{self._number} 0 0 "{self._item_id}"'.encode()
        self._number += 1
        self._stream.append(Frame(0, Channel.CONTENT, text, tokens, self._at_us(at), lacking))

    def complete(self, end: StreamEnd) -> None:
        at = time.monotonic()
        part = {"content_index": 0, "item_id": self._item_id, "output_index": 0}
        self._event("output_text.done", at, **part, logprobs=[], text="".join(self._texts))
        self._event("content_part.done", at, **part, part=self._part(logprobs=None))
        self._event("output_item.done", at, item=self._item("completed"), output_index=0)
        self._event("completed", at, response=self._response(end))

    def _open(self, at: float) -> None:
        header = StreamHeader(
            status=200,
            content_type="text/event-stream; charset=utf-8",
            api="responses",
            response_id=self._id,
            model=self._model,
            created=self._created,
        )
        self._stream.append(header)
        part = {"content_index": 0, "item_id": self._item_id, "output_index": 0}
        self._event("created", at, response=self._response())
        self._event("in_progress", at, response=self._response())
        self._event("output_item.added", at, item=self._item("in_progress"), output_index=0)
        self._event("content_part.added", at, **part, part=self._part(logprobs=[]))

    def _event(self, name: str, at: float, **fields: Any) -> None:
        fields |= {"sequence_number": self._number, "type": f"response.{name}"}
        said = {key: fields[key] for key in sorted(fields)}  # as vLLM's own happen to be
        payload = b"event: response.%b\ndata: %b" % (name.encode(), _json.encode(said))
        self._number += 1
        self._stream.append(Frame(0, Channel.EVENT, "", (), self._at_us(at), payload))


class WholeResponse(_Response):
    """One JSON body, once the answer is complete."""

    def complete(self, end: StreamEnd) -> None:
        body = _json.encode(self._response(end))
        write_body(self._stream, 200, body, self._at_us(time.monotonic()))


def _usage(end: StreamEnd) -> dict[str, Any]:
    nothing: list[int] = []
    return {
        "input_tokens": end.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": end.cached_tokens,
            "cache_write_tokens": end.prompt_tokens - end.cached_tokens,
            "input_tokens_per_turn": nothing,
            "cached_tokens_per_turn": nothing,
        },
        "output_tokens": end.output_tokens,
        "output_tokens_details": {
            "reasoning_tokens": 0,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": nothing,
            "tool_output_tokens_per_turn": nothing,
        },
        "total_tokens": end.prompt_tokens + end.output_tokens,
    }
