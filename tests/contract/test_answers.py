"""What an answer holds, whoever makes it."""

import json
from typing import Any

import pytest

from headstart.cluster.engine import EngineRequest
from headstart.cluster.stream import Stream
from headstart.stages.frames import Channel, decode_frame, decode_header, record_bounds
from headstart.stages.sse import is_last
from headstart.stages.stage_clock import Mark
from tests.contract.asking import CHAT, COMPLETIONS, RESPONSES, Subject, request, saying
from tests.support.streams import body, chunks, events, finished

pytestmark = pytest.mark.anyio

NUM_TOKENS = 12


def tokens(stream: Stream, choice: int = 0) -> list[int]:
    return [
        token
        for _, frame in stream.log.frames(0)
        if frame.choice == choice
        for token in frame.tokens
    ]


def text_of(stream: Stream, choice: int) -> str:
    """The text that a choice's chunks add up to."""
    parts = [part for chunk in chunks(stream) for part in chunk["choices"]]
    return "".join(
        part["text"] if "text" in part else part["delta"].get("content", "")
        for part in parts
        if part["index"] == choice
    )


async def test_start_tells_plausible_facts(subject: Subject) -> None:
    assert subject.info.model in ("fake", "smol")
    assert subject.info.max_model_len == 2048
    assert subject.info.block_size == 32


async def test_streamed_chat(subject: Subject) -> None:
    streamed = await finished(
        subject.serve(max_tokens=NUM_TOKENS, stream=True, stream_options={"include_usage": True})
    )
    whole = await finished(subject.serve(max_tokens=NUM_TOKENS))

    first, *_, usage = parts = chunks(streamed)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {part["object"] for part in parts} == {"chat.completion.chunk"}
    assert {part["id"] for part in parts} == {first["id"]}
    assert parts[-2]["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == NUM_TOKENS
    assert len(tokens(streamed)) == NUM_TOKENS
    text = text_of(streamed, 0)
    assert text
    assert text == body(whole)["choices"][0]["message"]["content"]


async def test_streamed_completion_of_two_prompts(subject: Subject) -> None:
    asked = {"prompt": ["Hello, my", "The sky"], "max_tokens": NUM_TOKENS}
    streamed = await finished(subject.serve(COMPLETIONS, **asked, stream=True))
    whole = await finished(subject.serve(COMPLETIONS, **asked))

    assert {part["object"] for part in chunks(streamed)} == {"text_completion"}
    texts = [text_of(streamed, choice) for choice in (0, 1)]
    assert texts == [choice["text"] for choice in body(whole)["choices"]]
    assert texts[0] != texts[1]
    for choice in (0, 1):
        assert len(tokens(streamed, choice)) == NUM_TOKENS
    assert streamed.end is not None
    assert streamed.end.finish_reasons == ("length", "length")
    assert streamed.end.output_tokens == 2 * NUM_TOKENS


async def test_streamed_response(subject: Subject) -> None:
    asked = {"input": "Name three colours.", "max_output_tokens": NUM_TOKENS}
    streamed = await finished(subject.serve(RESPONSES, **asked, stream=True))
    whole = await finished(subject.serve(RESPONSES, **asked))

    frames = [frame for _, frame in streamed.log.frames(0)]
    text = "".join(frame.text for frame in frames)
    assert text == body(whole)["output"][0]["content"][0]["text"]
    assert len(tokens(streamed)) == NUM_TOKENS
    header = streamed.log.header
    assert header is not None
    assert (header.api, header.model) == ("responses", subject.info.model)
    assert is_last(header, frames[-1])
    assert not any(is_last(header, frame) for frame in frames[:-1])
    written = events(streamed)
    assert written.startswith(b"event: response.created\ndata: {")
    assert written.count(b"\n\n") == len(frames)
    deltas = [frame for frame in frames if frame.channel is Channel.CONTENT]
    assert all(len(frame.payload or b"") < 50 for frame in deltas)


async def test_whole_answer(subject: Subject) -> None:
    stream = await finished(subject.serve(max_tokens=NUM_TOKENS))

    header, answer = stream.log.header, body(stream)
    assert header is not None
    assert (header.status, header.content_type) == (200, "application/json")
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == NUM_TOKENS
    assert stream.end is not None
    assert stream.end.prompt_tokens == answer["usage"]["prompt_tokens"]
    assert stream.end.output_tokens == NUM_TOKENS
    assert stream.end.finish_reasons == ("length",)
    assert not stream.end.is_aborted


async def test_models(subject: Subject) -> None:
    stream = await finished(subject.engine.serve(request("/v1/models", b"", method="GET")))

    (model,) = body(stream)["data"]
    assert (model["id"], model["object"]) == (subject.info.model, "model")
    assert model["max_model_len"] == subject.info.max_model_len


ERRORS: dict[str, tuple[str, bytes, int, str, str | None]] = {
    "malformed JSON": (CHAT, b"{bad", 400, "Bad Request", "body.1"),
    "not an object": (CHAT, b"[]", 400, "Bad Request", "body"),
    "empty body": (CHAT, b"", 400, "Bad Request", "body"),
    "unknown model": (CHAT, b'{"model":"x","messages":[]}', 404, "NotFoundError", "model"),
    "no messages": (CHAT, b"{}", 400, "Bad Request", "body.messages"),
    "no prompt": (COMPLETIONS, b"{}", 400, "BadRequestError", "prompt"),
    "wrong type": (
        *(COMPLETIONS, b'{"prompt":"a","max_tokens":"x"}'),
        *(400, "Bad Request", "body.max_tokens"),
    ),
    "no tokens": (
        *(COMPLETIONS, b'{"prompt":"a","max_tokens":0}'),
        *(400, "BadRequestError", "max_tokens"),
    ),
    "too many tokens": (
        *(COMPLETIONS, b'{"prompt":"a","max_tokens":5000,"stream":true}'),
        *(400, "BadRequestError", "max_tokens"),
    ),
    "too long a prompt": (
        *(COMPLETIONS, json.dumps({"prompt": "a " * 3000}).encode()),
        *(400, "BadRequestError", "input_tokens"),
    ),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_refusal_is_an_answer(subject: Subject, case: str) -> None:
    path, data, status, kind, param = ERRORS[case]

    stream = await finished(subject.engine.serve(request(path, data)))

    header = stream.log.header
    assert header is not None
    assert (header.status, header.content_type) == (status, "application/json")
    error: dict[str, Any] = body(stream)["error"]
    assert (error["type"], error["param"], error["code"]) == (kind, param, status)
    assert error["message"]
    assert stream.end is not None
    assert not stream.end.is_aborted


def long_request(subject: Subject) -> EngineRequest:
    text = "word " * 40
    return subject.request(messages=saying(text), max_tokens=NUM_TOKENS, stream=True)


async def test_every_record_decodes(subject: Subject) -> None:
    stream = await finished(subject.engine.serve(long_request(subject)))

    data = stream.log.read(0)
    (start, stop), *frames = record_bounds(data)
    assert decode_header(data[start:stop]).api == "chat"
    decoded = [decode_frame(data[start:stop]) for start, stop in frames]
    assert decoded
    times = [frame.at_us for frame in decoded]
    assert times == sorted(times)
    plain = [frame for frame in decoded if frame.payload is None]
    assert plain
    assert {frame.channel for frame in plain} == {Channel.CONTENT}


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_marks_follow_one_another(subject: Subject, is_streamed: bool) -> None:
    stream = await finished(subject.serve(max_tokens=NUM_TOKENS, stream=is_streamed))

    marks = [mark for mark in Mark if Mark.RECEIVED <= mark <= Mark.FRAMED]
    times = [stream.clock.get(mark) for mark in marks]
    assert None not in times
    known = [at for at in times if at is not None]
    assert known == sorted(known)
    total = stream.clock.between(Mark.RECEIVED, Mark.FRAMED)
    assert sum(stream.clock.durations().values()) == pytest.approx(total)
    assert stream.clock.get(Mark.SENT) is None


async def test_end_of_stream_is_marked(subject: Subject) -> None:
    stream = await finished(subject.engine.serve(long_request(subject)))

    assert events(stream).endswith(b"data: [DONE]\n\n")
