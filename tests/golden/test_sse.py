"""vLLM's own event streams, through the log and back.

The streams in `sse/` were recorded from vLLM 0.32; see `vllm_answers.py`.
"""

import json
from itertools import count
from pathlib import Path

import pytest

from headstart.stages.frames import Channel, Frame
from headstart.stages.sse import DONE, split_events
from tests.golden.vllm_answers import CHAT, CONTROL, STREAMS, UNICODE
from tests.stages.chunks import through_the_log

SSE = Path(__file__).parent / "sse"

PLAIN = {
    "chat": {"index", "delta", "logprobs", "finish_reason", "token_ids"},
    "completion": {
        *("index", "text", "logprobs", "finish_reason"),
        *("stop_reason", "prompt_token_ids", "token_ids"),
    },
}


def api_of(name: str) -> str:
    return "chat" if STREAMS[name].path == CHAT else "completion"


def payloads_of(name: str) -> list[bytes]:
    payloads, rest = split_events((SSE / f"{name}.sse").read_bytes())
    assert not rest
    return payloads


def frames_of(name: str) -> list[Frame]:
    frames, _ = through_the_log(api_of(name), payloads_of(name))
    return frames


def is_plain(name: str, payload: bytes) -> bool:
    """Whether a payload is a chunk that says nothing but a text."""
    if payload == DONE:
        return False
    chunk = json.loads(payload)
    if chunk.keys() != {"id", "object", "created", "model", "choices"} or not chunk["choices"]:
        return False
    choice = dict(chunk["choices"][0])
    if choice.keys() != PLAIN[api_of(name)] or choice.get("delta", {"content": ""}).keys() != {
        "content"
    }:
        return False
    said = {"index", "delta", "text"}
    return all(value is None for key, value in choice.items() if key not in said)


def test_every_request_has_its_recording() -> None:
    assert {path.stem for path in SSE.glob("*.sse")} == STREAMS.keys()


@pytest.mark.parametrize("name", STREAMS)
def test_projection_is_the_recording(name: str) -> None:
    _, events = through_the_log(api_of(name), payloads_of(name))

    assert b"".join(events) == (SSE / f"{name}.sse").read_bytes()


@pytest.mark.parametrize("name", STREAMS)
def test_plain_deltas_need_no_payload(name: str) -> None:
    payloads = payloads_of(name)

    verbatim = [frame.payload is not None for frame in frames_of(name)]

    assert verbatim == [not is_plain(name, payload) for payload in payloads]


@pytest.mark.parametrize("text", [UNICODE, CONTROL], ids=["unicode", "control"])
@pytest.mark.parametrize("api", ["chat", "completion"])
def test_text_is_what_the_model_said(api: str, text: str) -> None:
    name = f"{api}_{'unicode' if text is UNICODE else 'control'}"

    assert "".join(frame.text for frame in frames_of(name)) == text


def test_tokens_are_taken_with_the_delta_that_carries_them() -> None:
    """A choice's opening, its usage and the end of the stream take none."""
    numbers = count()

    frames, _ = through_the_log("chat", payloads_of("chat_usage"), lambda _: (next(numbers),))

    opening, *deltas, usage, done = frames
    assert [frame.tokens for frame in deltas] == [(number,) for number in range(8)]
    for frame in (opening, usage, done):
        assert (frame.channel, frame.tokens) == (Channel.EVENT, ())


def test_channels() -> None:
    channels = {frame.channel for frame in frames_of("chat_tool")}

    assert channels == {Channel.EVENT, Channel.TOOL, Channel.CONTENT}
    *_, error, done = frames_of("chat_error")
    assert (error.channel, done.channel) == (Channel.EVENT, Channel.EVENT)


def test_choices_are_told_apart() -> None:
    for name in ("chat_logprobs_of_two", "completions", "completion_logprobs_of_two"):
        assert {frame.choice for frame in frames_of(name)} == {0, 1}
