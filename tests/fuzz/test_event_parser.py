# Invariant: whatever an engine's app writes as the payload of an event, the parser makes a frame
# of it that the log can carry and whose projection is that event, byte for byte.
"""Random JSON, damaged chunks and junk in place of stream chunks."""

import json

from hypothesis import assume, given
from hypothesis import strategies as st

from headstart.stages.sse import split_events
from tests.stages.chunks import Delta, chat_choice, completion_choice, payload, through_the_log

numbers = st.integers() | st.floats()
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
odd_choices = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": st.integers(0, 2) | anything,
            "text": st.text() | anything,
            "delta": anything
            | st.fixed_dictionaries(
                {},
                optional=dict.fromkeys(
                    ("role", "content", "reasoning", "tool_calls"), st.text() | anything
                ),
            ),
        },
    )
)
odd_chunks = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text() | anything,
        "object": st.text() | anything,
        "created": st.integers() | anything,
        "model": st.text() | anything,
        "choices": odd_choices | anything,
    },
)
chunks = st.one_of(
    st.text().map(lambda text: payload(chat_choice(Delta(content=text)))),
    st.text().map(lambda text: payload(completion_choice(text))),
    st.builds(
        lambda chunk, ascii: json.dumps(chunk, ensure_ascii=ascii).encode(errors="surrogatepass"),
        odd_chunks | anything,
        st.booleans(),
    ),
    st.binary(),
)
damage = st.none() | st.tuples(st.integers(0, 1 << 10), st.binary(max_size=4), st.integers(0, 4))


def damaged(data: bytes, how: tuple[int, bytes, int] | None) -> bytes:
    if how is None:
        return data
    position, replacement, length = how
    return data[:position] + replacement + data[position + length :]


@given(
    st.sampled_from(["chat", "completion", ""]),
    st.lists(st.builds(damaged, chunks, damage), min_size=1, max_size=4),
)
def test_any_payload_comes_back_byte_for_byte(api: str, payloads: list[bytes]) -> None:
    calls: list[int] = []

    def take(choice: int) -> tuple[int, ...]:
        calls.append(choice)
        return (choice, len(calls))

    frames, events = through_the_log(api, payloads, take)

    assert events == [
        b"data: " + payload.replace(b"\n", b"\ndata: ") + b"\n\n" for payload in payloads
    ]
    assert [frame.tokens for frame in frames if frame.tokens] == [
        (choice, number) for number, choice in enumerate(calls, 1)
    ]


names = st.sampled_from(
    ["response.created", "response.output_text.delta", "response.completed", "error"]
)
fields = ("delta", "item_id", "content_index", "output_index", "sequence_number", "response")
odd_events = st.fixed_dictionaries(
    {"type": names | anything},
    optional=dict.fromkeys(fields, st.text() | st.integers(0, 9) | anything),
)
lines = st.builds(
    lambda name, event: b"event: %b\ndata: %b" % (name.encode(), json.dumps(event).encode()),
    names,
    odd_events,
)


@given(st.lists(st.builds(damaged, lines, damage), min_size=1, max_size=4))
def test_any_named_event_comes_back_byte_for_byte(events: list[bytes]) -> None:
    body = b"".join(event + b"\n\n" for event in events)
    kept, _ = split_events(body, has_names=True)
    assume(kept)  # one without data is dropped, and of none there is nothing to parse

    _, projected = through_the_log("responses", kept)

    assert projected == [event + b"\n\n" for event in kept]
