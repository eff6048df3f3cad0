"""Chunks of an answer that is made again carry the id and the time of the first making."""

import pytest

from headstart.stages.frames import Frame, StreamHeader
from headstart.stages.sse import EventParser, project

KNOWN = StreamHeader(200, "text/event-stream", "chat", "chatcmpl-old", "m", 7)
DELTA = (
    b'{"id":"%b","object":"chat.completion.chunk","created":%d,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null,"token_ids":null}]}'
)
USAGE = (
    b'{"id":"%b","object":"chat.completion.chunk","created":%d,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":1},"note":"%b"}'
)


def parsed(payloads: list[bytes], known: StreamHeader | None) -> tuple[StreamHeader, list[Frame]]:
    parser = EventParser("chat", 200, "text/event-stream", known)
    frames = [parser.parse(payload, lambda _: (1,), 0) for payload in payloads]
    assert parser.header is not None
    return parser.header, frames


def test_known_id_and_time_take_the_place_of_new_ones() -> None:
    new = [DELTA % (b"chatcmpl-new", 9), USAGE % (b"chatcmpl-new", 9, b"chatcmpl-new")]
    old = [DELTA % (b"chatcmpl-old", 7), USAGE % (b"chatcmpl-old", 7, b"chatcmpl-new")]

    again, frames = parsed(new, KNOWN)

    assert (again, frames) == parsed(old, None)
    assert again == KNOWN
    assert frames[0].payload is None
    assert [project(again, frame) for frame in frames] == [b"data: %b\n\n" % one for one in old]


@pytest.mark.parametrize("payload", [b"[DONE]", b'{"error":{"code":500}}', b"", b'{"id":7}'])
def test_whatever_is_no_chunk_stays_as_it_is(payload: bytes) -> None:
    _, frames = parsed([DELTA % (b"chatcmpl-new", 9), payload], KNOWN)

    assert frames[1].payload == payload
