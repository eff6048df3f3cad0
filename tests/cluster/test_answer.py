"""What of an app's HTTP answer reaches its client."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from headstart.cluster.answer import AnswerWriter
from headstart.cluster.stream import Stream
from headstart.pipeline.sse import send_body
from headstart.stages.mirror import StreamEnd

METADATA = (b"metadata", b'{"data": [{"index": 0, "start": 0, "end": 4}]}')


class NoPace:
    def wrote(self, num_tokens: int, at: float) -> None: ...

    def projected(self, num_frames: int, seconds: float) -> None: ...


@pytest.mark.anyio
async def test_headers_that_are_part_of_the_answer_are_passed_on_and_no_others() -> None:
    stream = Stream("one", 1 << 20)
    answer = AnswerWriter(stream, "", lambda _: (), lambda: None, lambda: False)
    head = [(b"Content-Type", b"application/octet-stream"), METADATA, (b"server", b"inside")]
    answer.send({"type": "http.response.start", "status": 200, "headers": head})
    answer.send({"type": "http.response.body", "body": b"\0\0\0\0", "more_body": False})
    stream.finish(StreamEnd())
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await send_body(stream, send, pace=NoPace())

    assert sent[0]["headers"] == [
        (b"content-type", b"application/octet-stream"),
        (b"x-headstart-stream", b"one"),
        METADATA,
        (b"content-length", b"4"),
    ]
