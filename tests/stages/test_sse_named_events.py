"""Events with names, as the Responses API has them, come back byte for byte."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.sse import is_last, parser_of, project, split_events
from tests.stages.chunks import no_tokens, through_the_log

HEADER = StreamHeader(200, "text/event-stream", "responses", "resp_1", "tiny", 1)
CREATED = {"response": {"id": "resp_1", "model": "tiny", "created_at": 7}, "sequence_number": 0}
DELTA: dict[str, Any] = {
    "content_index": 0,
    "delta": "a",
    "item_id": "msg_1",
    "logprobs": [],
    "output_index": 0,
    "sequence_number": 4,
}


def named(name: str, /, **fields: Any) -> bytes:
    """The lines of an event, in the order in which vLLM writes its fields."""
    text = json.dumps(fields | {"type": name}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {text}".encode(errors="surrogatepass")


def delta(text: str, **fields: Any) -> bytes:
    return named("response.output_text.delta", **(DELTA | fields | {"delta": text}))


texts = st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"))


@given(texts, st.integers(0, 2**31), st.integers(0, 9), texts)
def test_any_text_delta_is_rebuilt_from_what_its_template_lacks(
    text: str, number: int, output: int, item: str
) -> None:
    event = delta(text, sequence_number=number, output_index=output, item_id=item)

    (frame,), (projected,) = through_the_log("responses", [event])

    assert projected == event + b"\n\n"
    assert (frame.channel, frame.text) == (Channel.CONTENT, text)
    assert frame.payload is not None
    assert not frame.payload.startswith(b"event: ")


def test_reasoning_has_a_channel_of_its_own() -> None:
    fields = {key: value for key, value in DELTA.items() if key != "logprobs"}
    event = named("response.reasoning_text.delta", **fields)

    (frame,), (projected,) = through_the_log("responses", [event])

    assert projected == event + b"\n\n"
    assert (frame.channel, frame.text, frame.payload) == (Channel.REASONING, "a", b'4 0 0 "msg_1"')


UNUSUAL = {
    "log-probabilities": delta("a", logprobs=[{"token": "a", "logprob": -0.1}]),
    "another order": named("response.output_text.delta", **dict(reversed(DELTA.items()))),
    "negative number": delta("a", sequence_number=-1),
    "number over 64 bits": delta("a", sequence_number=2**64),
    "name that is not its type": delta("a").replace(b"event: response", b"event: answer"),
    "no name": delta("a").split(b"\n")[1],
    "name after the data": b"\n".join(reversed(delta("a").split(b"\n"))),
    "two lines of data": b'event: error\ndata: {"a":\ndata: 1}',
    "no JSON": b"event: error\ndata: oops",
    "lone surrogate": delta("\ud800"),
    "tool call": named("response.function_call_arguments.delta", delta="{", item_id="fc_1"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_whatever_is_more_is_kept(name: str) -> None:
    event = UNUSUAL[name]

    _, projected = through_the_log("responses", [event])
    _, later = through_the_log("responses", [named("response.created", **CREATED), event])

    assert projected == later[1:] == [event + b"\n\n"]


def test_header_is_that_of_the_response() -> None:
    parser = parser_of("responses", 200, "text/event-stream")

    parser.parse(named("response.created", **CREATED), no_tokens, at_us=1)

    header = StreamHeader(200, "text/event-stream", "responses", "resp_1", "tiny", 7)
    assert parser.header == header


def test_tokens_without_a_delta_are_on_the_last_event() -> None:
    parser = parser_of("responses", 200, "text/event-stream")
    waiting = [1, 2]

    def take(_: int) -> tuple[int, ...]:
        tokens, waiting[:] = tuple(waiting), []
        return tokens

    frames = [
        parser.parse(event, take, at_us=1)
        for event in (
            named("response.created", **CREATED),
            named("response.output_item.added", item={}),
            delta("a"),
        )
    ]
    waiting.append(3)
    frames += [
        parser.parse(event, take, at_us=1)
        for event in (
            named("response.output_item.done", item={}),
            named("response.completed", **CREATED),
        )
    ]

    assert [frame.tokens for frame in frames] == [(), (), (1, 2), (), (3,)]
    assert [is_last(HEADER, frame) for frame in frames] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("channel", "payload"),
    [
        (Channel.CONTENT, None),
        (Channel.CONTENT, b""),
        (Channel.CONTENT, b"1 2 3"),
        (Channel.TOOL, b'1 2 3 "a"'),
    ],
)
def test_frame_that_says_no_event_is_refused(channel: Channel, payload: bytes | None) -> None:
    with pytest.raises(ProtocolViolation):
        project(HEADER, Frame(0, channel, "a", (), 1, payload))


line = st.binary(min_size=1, max_size=6).filter(lambda data: b"\n" not in data)
events = st.builds(
    lambda names, data: b"\n".join(
        [*(b"event: " + name for name in names), *(b"data: " + one for one in data)]
    ),
    st.lists(line, max_size=1),
    st.lists(line, min_size=1, max_size=2),
)


@given(st.lists(events), st.lists(st.integers(0, 80)))
def test_events_do_not_depend_on_where_the_bytes_are_cut(
    sent: list[bytes], cuts: list[int]
) -> None:
    body = b"".join(event + b"\n\n" for event in sent)
    found: list[bytes] = []
    rest = b""
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, stop in pairwise(edges):
        more, rest = split_events(rest + body[start:stop], has_names=True)
        found += more

    assert (found, rest) == (sent, b"")


def test_only_names_and_data_are_kept() -> None:
    body = b": ping\n\nevent: a\nid: 7\ndata: b\nretry: 5\n\nevent: empty\n\n"

    assert split_events(body, has_names=True) == ([b"event: a\ndata: b"], b"")
