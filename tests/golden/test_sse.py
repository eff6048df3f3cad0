"""vLLM's own event streams, through the log and back.

The streams in `sse/` were recorded from vLLM 0.32; see `vllm_answers.py`.
"""

import json
from itertools import count
from pathlib import Path

import pytest

from headstart.stages.frames import Channel, Frame
from headstart.stages.sse import DONE, split_events
from tests.golden.vllm_answers import CHAT, CONTROL, RESPONSES, STREAMS, UNICODE
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
    return {CHAT: "chat", RESPONSES: "responses"}.get(STREAMS[name].path, "completion")


def payloads_of(name: str) -> list[bytes]:
    body = (SSE / f"{name}.sse").read_bytes()
    payloads, rest = split_events(body, has_names=api_of(name) == "responses")
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


@pytest.mark.parametrize("name", [name for name in STREAMS if api_of(name) != "responses"])
def test_plain_deltas_need_no_payload(name: str) -> None:
    payloads = payloads_of(name)

    verbatim = [frame.payload is not None for frame in frames_of(name)]

    assert verbatim == [not is_plain(name, payload) for payload in payloads]


@pytest.mark.parametrize("text", [UNICODE, CONTROL], ids=["unicode", "control"])
@pytest.mark.parametrize("api", ["chat", "completion", "responses"])
def test_text_is_what_the_model_said(api: str, text: str) -> None:
    name = f"{api}_{'unicode' if text is UNICODE else 'control'}"

    said = "".join(frame.text for frame in frames_of(name))

    # The Responses API has no choices, so the text was asked for as JSON.
    assert (json.loads(said) if api == "responses" else said) == text


def test_plain_deltas_of_a_response_need_little() -> None:
    plain = [frame for frame in frames_of("responses") if frame.text]

    assert len(plain) == 8
    for frame in plain:
        assert frame.channel is Channel.CONTENT
        assert frame.payload is not None
        assert len(frame.payload) < 32


def test_deltas_of_a_response_that_say_more_are_whole() -> None:
    told = [frame for frame in frames_of("responses_logprobs") if frame.text]
    called = [frame for frame in frames_of("responses_tool") if frame.channel is Channel.TOOL]

    for frame in told + called:
        assert frame.payload is not None
        assert frame.payload.startswith(b"event: response.")


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
