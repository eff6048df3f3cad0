"""An answer that another engine had begun: continued exactly, from any cursor, or not at all."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from headstart.cluster.engine import EngineRequest
from headstart.cluster.stream import Stream
from headstart.stages.frames import decode_frame, record_bounds
from headstart.stages.token_log import TokenLog
from tests.contract.asking import COMPLETIONS, Subject, saying
from tests.support.streams import body, chunks, finished
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

USAGE = {"stream": True, "stream_options": {"include_usage": True}}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {**USAGE, "max_tokens": 24}),
    "prompts": (COMPLETIONS, {"prompt": ["The sky is", "Once"], "max_tokens": 12, **USAGE}),
    "unicode": (
        "/v1/chat/completions",
        {"messages": saying("日本語 🎉 repeat after me: 👩‍👩‍👧"), "max_tokens": 24, "stream": True},
    ),
}


def again(subject: Subject, path: str, fields: dict[str, Any]) -> EngineRequest:
    return subject.request(path, **fields)


def told(stream: Stream) -> tuple[dict[int, str], dict[int, str], Any]:
    """Texts and ends by choice, and the usage.

    Not by step: tokens that wait for a slow front end leave it together.
    """
    texts: dict[int, str] = defaultdict(str)
    ends: dict[int, str] = {}
    usage = None
    for chunk in chunks(stream):
        usage = chunk.get("usage") or usage
        for part in chunk["choices"]:
            index = part["index"]
            texts[index] += part["text"] if "text" in part else part["delta"].get("content") or ""
            if part["finish_reason"] is not None:
                assert index not in ends
                ends[index] = part["finish_reason"]
    return texts, ends, usage


def cursors(log: TokenLog) -> Iterator[int]:
    for _, end in record_bounds(log.read(0)):
        yield end


@pytest.mark.parametrize("name", ASKED)
async def test_continued_answer_is_the_uninterrupted_one(subject: Subject, name: str) -> None:
    """Once by itself, then from many cursors side by side."""
    path, fields = ASKED[name]
    whole = await finished(subject.serve(path, **fields))

    async def check(end: int) -> None:
        logged = whole.log.read(0)[:end]
        stream = subject.engine.serve(again(subject, path, fields), logged=logged)
        await soon(stream.finished())

        assert whole.end is not None
        assert stream.end is not None
        assert stream.end.failure is None, end
        assert stream.log.read(0)[:end] == logged
        assert stream.log.header == whole.log.header
        assert told(stream) == told(whole), end
        times = [frame.at_us for _, frame in stream.log.frames(0)]
        assert end == ends[-1] or times == sorted(times)
        assert stream.end.output_tokens == whole.end.output_tokens
        assert stream.end.prompt_tokens == whole.end.prompt_tokens
        assert stream.end.finish_reasons == whole.end.finish_reasons

    ends = list(cursors(whole.log))
    await check(ends[2])
    async with asyncio.TaskGroup() as group:
        for end in [ends[0], ends[1], *ends[7 : len(ends) - 4 : 5], *ends[-4:]]:
            group.create_task(check(end))


async def test_whole_answer_is_made_again(subject: Subject) -> None:
    whole = await finished(subject.serve(max_tokens=8))
    logged = whole.log.read(0)[: whole.log.header_end]

    stream = await finished(subject.engine.serve(subject.request(max_tokens=8), logged=logged))

    assert body(stream)["choices"] == body(whole)["choices"]
    assert body(stream)["usage"] == body(whole)["usage"]


async def test_another_answer_is_not_continued(subject: Subject) -> None:
    path, fields = ASKED["chat"]
    whole = await finished(subject.serve(path, **fields))
    ends = list(cursors(whole.log))
    logged = whole.log.read(0)[: ends[8]]
    other = subject.request(path, **{**fields, "messages": saying("Count to ten.")})
    if subject.info.model == "fake":
        assert await ends_with(subject.engine.serve(other, logged=logged), "NotContinued")
    # Where the tokens are given, a real engine would say them of any prompt: its text differs.
    torn = TokenLog(1 << 20)
    torn.extend(logged[: ends[6]])
    frame = decode_frame(list(body_of(whole.log))[8])
    torn.append(msgspec.structs.replace(frame, text="never said"))

    stream = subject.engine.serve(subject.request(path, **fields), logged=torn.read(0))

    assert await ends_with(stream, "NotContinued")
    assert stream.log.read(0) == torn.read(0)


def body_of(log: TokenLog) -> Iterator[bytes]:
    data = log.read(0)
    for start, end in record_bounds(data):
        yield data[start:end]


async def ends_with(stream: Stream, error: str) -> bool:
    await soon(stream.finished())
    assert stream.end is not None
    assert stream.end.failure is not None
    assert stream.end.failure.to_error().is_retryable
    return stream.end.failure.error == error


@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:::vllm")
@pytest.mark.parametrize("fields", [{"seed": 1, "temperature": 1}, {"presence_penalty": 1.0}])
async def test_what_vllm_cannot_continue_exactly_is_refused(
    vllm: Subject, fields: dict[str, Any]
) -> None:
    path, asked = ASKED["chat"]
    whole = await finished(vllm.serve(path, **asked, **fields))
    logged = whole.log.read(0)[: list(cursors(whole.log))[6]]

    stream = vllm.engine.serve(vllm.request(path, **asked, **fields), logged=logged)

    assert await ends_with(stream, "NotContinued")
    assert stream.log.read(0) == logged


@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:::vllm")
async def test_sampled_answer_keeps_what_was_sent(vllm: Subject) -> None:
    """Only an engine that is given the logged tokens can go on from them."""
    path, asked = ASKED["chat"]
    fields = {**asked, "temperature": 1.5, "max_tokens": 40, "ignore_eos": True}
    whole = await finished(vllm.serve(path, **fields))
    end = list(cursors(whole.log))[20]
    logged = whole.log.read(0)[:end]

    stream = vllm.engine.serve(vllm.request(path, **fields), logged=logged)

    await finished(stream)
    assert stream.log.starts_with(logged)
    assert stream.end is not None
    assert stream.end.output_tokens == 40
    assert chunks(stream)[-1]["usage"]["completion_tokens"] == 40
