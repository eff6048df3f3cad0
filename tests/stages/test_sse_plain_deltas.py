"""A chunk that is nothing but a text delta costs no JSON in the log, and comes back the same."""

import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstart.stages.frames import Channel
from tests.stages import chunks
from tests.stages.chunks import Delta, chat_choice, completion_choice, payload, through_the_log

AWKWARD = "\x00\t\n\r\x1f\x7f\x85\u00e9\u2028\u2029\ufeff\uffff\U0001f600\U0010ffff\"'\\/</script>"

type_of_choice = st.sampled_from(
    [
        ("chat", Channel.CONTENT, lambda text, i: chat_choice(Delta(content=text), i)),
        ("chat", Channel.REASONING, lambda text, i: chat_choice(Delta(reasoning=text), i)),
        ("completion", Channel.CONTENT, completion_choice),
    ]
)
names = st.text(min_size=1)


@given(type_of_choice, st.text(min_size=1), st.integers(0, 2**31), names, st.text(), st.data())
@example(("completion", Channel.CONTENT, completion_choice), AWKWARD, 0, AWKWARD, AWKWARD, None)
def test_any_delta_of_any_stream_is_rebuilt_from_its_template(
    kind: tuple[str, Channel, Callable[[str, int], chunks.ChatChoice]],
    text: str,
    index: int,
    response_id: str,
    model: str,
    data: st.DataObject | None,
) -> None:
    api, channel, choice = kind
    created = data.draw(st.integers(0, 2**63 - 1)) if data else 1
    chunk = payload(choice(text, index), response_id=response_id, model=model, created=created)

    (frame,), (event,) = through_the_log(api, [chunk])

    assert (frame.choice, frame.channel, frame.text, frame.payload) == (index, channel, text, None)
    assert event == b"data: " + chunk + b"\n\n"


def test_every_character_is_rebuilt_from_the_template() -> None:
    surrogates = range(0xD800, 0xE000)
    text = "".join(chr(code) for code in range(sys.maxunicode + 1) if code not in surrogates)
    chunk = chunks.content(text)

    (frame,), (event,) = through_the_log("chat", [chunk])

    assert (frame.text, frame.payload) == (text, None)
    assert event == b"data: " + chunk + b"\n\n"


@pytest.mark.parametrize("text", ["", AWKWARD])
def test_a_delta_without_text_is_a_delta(text: str) -> None:
    (frame,), _ = through_the_log("chat", [chunks.content(text)])

    assert (frame.channel, frame.text, frame.payload) == (Channel.CONTENT, text, None)
