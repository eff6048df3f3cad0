"""A chunk that no template says is kept byte for byte, whatever it looks like."""

import json

import pytest

from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.sse import DONE, EventParser, project
from tests.stages.chunks import (
    Delta,
    chat_choice,
    completion_choice,
    content,
    no_tokens,
    payload,
    through_the_log,
)
from tests.stages.strategies import HEADER

PLAIN = content("word")
LOGPROBS = {"content": [{"token": "word", "logprob": -0.1234567890123456, "bytes": [119]}]}
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}

UNUSUAL = {
    "role": payload(chat_choice(Delta(role="assistant", content=""))),
    "finish": payload(chat_choice(Delta(content="."), finish_reason="stop", stop_reason=None)),
    "log-probabilities": payload(chat_choice(Delta(content="word"), logprobs=LOGPROBS)),
    "token ids": payload(chat_choice(Delta(content="word"), token_ids=[7])),
    "tool call": payload(chat_choice(Delta(tool_calls=[CALL]))),
    "content beside reasoning": payload(chat_choice(Delta(content="a", reasoning="b"))),
    "empty delta": payload(chat_choice(Delta())),
    "usage": payload(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
    "usage in every chunk": payload(chat_choice(Delta(content="a")), usage={"total_tokens": 3}),
    "several choices": payload(chat_choice(Delta(content="a")), chat_choice(Delta(content="b"), 1)),
    "another id": payload(chat_choice(Delta(content="a")), response_id="other"),
    "another model": payload(chat_choice(Delta(content="a")), model="other"),
    "another second": payload(chat_choice(Delta(content="a")), created=1),
    "another api": payload(completion_choice("a")),
    "extra field": PLAIN.replace(b'"delta":', b'"new":{"a":[1.50,null]},"delta":'),
    "other key order": json.dumps(dict(reversed(json.loads(PLAIN).items()))).encode(),
    "white space": json.dumps(json.loads(PLAIN), indent=1).replace("\n", "").encode(),
    "escaped text": content("é").replace("é".encode(), b"\\u00e9"),
    "lone surrogate": content("é").replace("é".encode(), b"\\ud800"),
    "invalid UTF-8": content("é").replace("é".encode(), b"\xff"),
    "float index": PLAIN.replace(b'"index":0', b'"index":0.0'),
    "negative index": PLAIN.replace(b'"index":0', b'"index":-1'),
    "index over 64 bits": PLAIN.replace(b'"index":0', b'"index":%d' % 2**64),
    "number over 64 bits": PLAIN.replace(b'"created":', b'"created":%d' % 2**64),
    "null choices": PLAIN[: PLAIN.index(b'"choices"')] + b'"choices":null}',
    "null choice": PLAIN[: PLAIN.index(b'"choices"')] + b'"choices":[null]}',
    "choice without delta": PLAIN.replace(b'"delta"', b'"other"'),
    "null delta": PLAIN.replace(b'{"content":"word"}', b"null"),
    "null tool calls": PLAIN.replace(b'"content":"word"', b'"tool_calls":null'),
    "error": b'{"error":{"message":"out of memory","type":"InternalServerError","code":500}}',
    "deep nesting": PLAIN[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "array": b"[1,2.0,3e400]",
    "end": DONE,
    "no JSON": b"{oops",
    "no text": b"\xfe\xff\x00",
}


@pytest.mark.parametrize("api", ["chat", "completion", ""])
@pytest.mark.parametrize("chunk", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_chunk_comes_back_byte_for_byte(api: str, chunk: bytes) -> None:
    """As the first chunk of a stream, and in the middle of it."""
    sent = [chunk, PLAIN, chunk, PLAIN]
    _, events = through_the_log(api, sent)
    assert events == [b"data: " + payload + b"\n\n" for payload in sent]

    sent = [PLAIN, chunk]
    _, events = through_the_log(api, sent)
    assert events == [b"data: " + payload + b"\n\n" for payload in sent]


@pytest.mark.parametrize("chunk", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_chunk_of_a_chat_is_kept_whole(chunk: bytes) -> None:
    (_, frame), _ = through_the_log("chat", [PLAIN, chunk])

    assert frame.payload == chunk


@pytest.mark.parametrize(
    ("name", "channel", "text"),
    [
        ("role", Channel.EVENT, ""),
        ("finish", Channel.CONTENT, "."),
        ("log-probabilities", Channel.CONTENT, "word"),
        ("tool call", Channel.TOOL, ""),
        ("null tool calls", Channel.CONTENT, ""),
        ("usage", Channel.EVENT, ""),
        ("escaped text", Channel.CONTENT, "é"),
        ("error", Channel.EVENT, ""),
        ("end", Channel.EVENT, ""),
    ],
)
def test_a_reader_of_frames_sees_the_text_of_an_unusual_chunk(
    name: str, channel: Channel, text: str
) -> None:
    (_, frame), _ = through_the_log("chat", [PLAIN, UNUSUAL[name]])

    assert (frame.channel, frame.text) == (channel, text)


@pytest.mark.parametrize("name", ["error", "end", "no JSON", "array"])
def test_a_stream_that_begins_with_no_chunk_has_no_templates(name: str) -> None:
    parser = EventParser("chat", 200, "text/event-stream")
    parser.parse(UNUSUAL[name], no_tokens, at_us=1)

    assert parser.header == StreamHeader(200, "text/event-stream")


def test_an_api_without_templates_is_kept_verbatim() -> None:
    (frame,), _ = through_the_log("", [PLAIN])

    assert (frame.payload, frame.text) == (PLAIN, "word")


@pytest.mark.parametrize("header", [HEADER, StreamHeader(200, "text/event-stream", "newer")])
def test_a_frame_that_no_template_says_is_a_violation(header: StreamHeader) -> None:
    with pytest.raises(ProtocolViolation, match="no template"):
        project(header, Frame(0, Channel.TOOL, "", (), 1))
