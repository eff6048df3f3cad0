"""Writes the fake engine's answers: the records that vLLM 0.32's answers become.

tests/golden holds the originals. A plain delta has no payload; everything else is spelled out.
"""

import time
from abc import ABC, abstractmethod
from hashlib import blake2b
from typing import Any

import msgspec

from headstart.cluster.engine import EngineInfo
from headstart.cluster.stream import Stream
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.mirror import StreamEnd
from headstart.stages.sse import DONE

__all__ = ["AnswerForm", "StreamedAnswer", "WholeAnswer", "models_body", "write_body"]

_FINGERPRINT = "headstart-fake"
_PREFIXES = {"chat": "chatcmpl-", "completion": "cmpl-", "responses": "resp_"}
_json = msgspec.json.Encoder()


class AnswerForm(ABC):
    """How an answer is written into its log.

    Args:
        stream: Where to.
        api: `chat`, `completion` or `responses`.
        model: Served model name.
    """

    def __init__(self, stream: Stream, api: str, model: str) -> None:
        self._stream = stream
        self._api = api
        self._model = model
        self._id = f"{_PREFIXES[api]}{_hex(stream.id)}"
        self._created = int(time.time())
        known = stream.replay.header if stream.replay is not None else None
        if known is not None and known.api:
            self._id, self._created = known.response_id, known.created
        self._began = time.monotonic()

    @abstractmethod
    def delta(self, choice: int, tokens: tuple[int, ...], text: str, at: float) -> None:
        """Write what one step gave to a choice, at a moment of the monotonic clock."""

    @abstractmethod
    def last_delta(
        self, choice: int, tokens: tuple[int, ...], text: str, reason: str, at: float
    ) -> None:
        """Write the last of a choice, and why it ends."""

    @abstractmethod
    def complete(self, end: StreamEnd) -> None:
        """Write what comes after the last choice's last delta."""

    def _at_us(self, at: float) -> int:
        return int((at - self._began) * 1e6)

    def _body(self, kind: str, choices: list[dict[str, Any]], **more: object) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
            **more,
        }


class StreamedAnswer(AnswerForm):
    """Server-sent events.

    Args:
        has_usage: Whether a chunk with the usage comes last.
        has_token_ids: Whether a chat's chunks say which tokens they are; nothing else does.
    """

    def __init__(
        self, stream: Stream, api: str, model: str, *, has_usage: bool, has_token_ids: bool = False
    ) -> None:
        super().__init__(stream, api, model)
        self._has_usage = has_usage
        self._has_token_ids = has_token_ids and api == "chat"
        self._is_open = False
        self._kind = "chat.completion.chunk" if api == "chat" else "text_completion"

    def delta(self, choice: int, tokens: tuple[int, ...], text: str, at: float) -> None:
        if not self._is_open:
            self._open(at)
        payload = self._with_ids(choice, tokens, text) if self._has_token_ids else None
        self._stream.append(Frame(choice, Channel.CONTENT, text, tokens, self._at_us(at), payload))

    def last_delta(
        self, choice: int, tokens: tuple[int, ...], text: str, reason: str, at: float
    ) -> None:
        if not self._is_open:
            self._open(at)
        fields: dict[str, Any] = {"index": choice}
        if self._api == "chat":
            fields |= {"delta": {"content": text}} | _finish(reason)
            fields |= {"token_ids": tokens} if self._has_token_ids else _unset("token_ids")
        else:
            fields |= {"text": text} | _finish(reason) | _unset("prompt_token_ids", "token_ids")
        more = {} if self._has_usage else {"system_fingerprint": _FINGERPRINT}
        payload = _json.encode(self._body(self._kind, [fields], **more))
        self._stream.append(Frame(choice, Channel.CONTENT, text, tokens, self._at_us(at), payload))

    def complete(self, end: StreamEnd) -> None:
        at = time.monotonic()
        if self._has_usage:
            usage = self._body(self._kind, [], usage=_usage(end), system_fingerprint=_FINGERPRINT)
            self._event(_json.encode(usage), at)
        self._event(DONE, at)

    def _open(self, at: float) -> None:
        self._is_open = True
        self._stream.append(
            StreamHeader(
                status=200,
                content_type="text/event-stream; charset=utf-8",
                api=self._api,
                response_id=self._id,
                model=self._model,
                created=self._created,
            )
        )
        if self._api == "chat":
            role: dict[str, Any] = {"index": 0, "delta": {"role": "assistant", "content": ""}}
            role |= _unset("logprobs", "finish_reason")
            prompt = _unset("prompt_token_ids", "prompt_text")
            self._event(_json.encode(self._body(self._kind, [role], **prompt)), at)

    def _with_ids(self, choice: int, tokens: tuple[int, ...], text: str) -> bytes:
        fields = {"index": choice, "delta": {"content": text}} | _unset("logprobs", "finish_reason")
        return _json.encode(self._body(self._kind, [fields | {"token_ids": tokens}]))

    def _event(self, payload: bytes, at: float) -> None:
        self._stream.append(Frame(0, Channel.EVENT, "", (), self._at_us(at), payload))


class WholeAnswer(AnswerForm):
    """One JSON body, once every choice is complete."""

    def __init__(self, stream: Stream, api: str, model: str) -> None:
        super().__init__(stream, api, model)
        self._texts: dict[int, list[str]] = {}
        self._reasons: dict[int, str] = {}

    def delta(self, choice: int, tokens: tuple[int, ...], text: str, at: float) -> None:
        self._texts.setdefault(choice, []).append(text)

    def last_delta(
        self, choice: int, tokens: tuple[int, ...], text: str, reason: str, at: float
    ) -> None:
        self.delta(choice, tokens, text, at)
        self._reasons[choice] = reason

    def complete(self, end: StreamEnd) -> None:
        usage = _usage(end) | _unset("prompt_tokens_details", "completion_tokens_details")
        tail = _unset("service_tier") | {"system_fingerprint": _FINGERPRINT, "usage": usage}
        kind = "text_completion"
        if self._api == "chat":
            kind = "chat.completion"
            tail |= _unset("prompt_logprobs", "prompt_token_ids", "prompt_text")
        tail |= _unset("kv_transfer_params", "ec_transfer_params", "metrics")
        choices = [self._choice(choice) for choice in sorted(self._reasons)]
        at_us = self._at_us(time.monotonic())
        write_body(self._stream, 200, _json.encode(self._body(kind, choices, **tail)), at_us)

    def _choice(self, choice: int) -> dict[str, Any]:
        text = "".join(self._texts[choice])
        finish = _finish(self._reasons[choice])
        if self._api == "chat":
            unset = ("refusal", "annotations", "audio", "function_call", "reasoning")
            message = {"role": "assistant", "content": text} | _unset(*unset)
            fields = {"message": message} | finish | _unset("token_ids")
        else:
            fields = {"text": text} | finish
            fields |= _unset("token_ids", "prompt_logprobs", "prompt_token_ids")
        return {"index": choice} | fields | _unset("routed_experts")


def write_body(stream: Stream, status: int, body: bytes, at_us: int = 0) -> None:
    """Write an answer that is one body of JSON."""
    stream.append(StreamHeader(status, "application/json"))
    stream.append(Frame(0, Channel.EVENT, "", (), at_us, body))


def models_body(info: EngineInfo) -> bytes:
    """Return the body of `GET /v1/models`."""
    created = int(time.time())
    permission = {
        "id": f"modelperm-{_hex(info.model)}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    model = {
        "id": info.model,
        "object": "model",
        "created": created,
        "owned_by": "headstart",
        "root": info.model,
        "parent": None,
        "max_model_len": info.max_model_len,
        "permission": [permission],
    }
    return _json.encode({"object": "list", "data": [model]})


def _finish(reason: str) -> dict[str, Any]:
    return {"logprobs": None, "finish_reason": reason, "stop_reason": None}


def _unset(*names: str) -> dict[str, Any]:
    """Name the fields that vLLM spells out although they say nothing."""
    return dict.fromkeys(names)


def _usage(end: StreamEnd) -> dict[str, Any]:
    return {
        "prompt_tokens": end.prompt_tokens,
        "total_tokens": end.prompt_tokens + end.output_tokens,
        "completion_tokens": end.output_tokens,
    }


def _hex(name: str) -> str:
    return blake2b(name.encode(), digest_size=8).hexdigest()
