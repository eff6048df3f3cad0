"""An answer that is made a second time may only repeat, and then go on."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.errors import NotContinued, ProtocolViolation
from headstart.stages.frames import Channel, Frame, StreamHeader, encode
from headstart.stages.replay import Replay

HEADER = StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "m", 7)
TOKENS = st.lists(st.integers(0, 99), max_size=3).map(tuple)
FRAMES = st.lists(
    st.builds(
        Frame,
        choice=st.integers(0, 2),
        channel=st.just(Channel.CONTENT),
        text=st.text(max_size=4),
        tokens=TOKENS,
        at_us=st.integers(0, 999),
    ),
    max_size=12,
)


def log(frames: list[Frame]) -> bytes:
    return encode(HEADER) + b"".join(encode(frame) for frame in frames)


@given(FRAMES, st.data())
def test_whatever_is_logged_is_swallowed_and_the_rest_is_news(
    frames: list[Frame], data: st.DataObject
) -> None:
    num_logged = data.draw(st.integers(0, len(frames)))
    replay = Replay(log(frames[:num_logged]))
    # Engines order choices as they come: any order that keeps each choice's own will do.
    order = data.draw(st.permutations(range(3)))
    again = sorted(frames, key=lambda frame: order[frame.choice])

    assert replay.take(HEADER) is None
    news = [taken for frame in again if (taken := replay.take(frame)) is not None]

    assert replay.is_over
    for choice in range(3):
        expected = [frame for frame in frames[num_logged:] if frame.choice == choice]
        found = [frame for frame in news if isinstance(frame, Frame) and frame.choice == choice]
        shift = frames[num_logged - 1].at_us if num_logged else 0
        assert found == [
            msgspec.structs.replace(frame, at_us=frame.at_us + shift) for frame in expected
        ]


@given(FRAMES)
def test_steps_are_what_the_frames_were_made_of(frames: list[Frame]) -> None:
    replay = Replay(log(frames))

    for choice in range(3):
        assert replay.steps(choice) == [
            frame.tokens for frame in frames if frame.choice == choice and frame.tokens
        ]


@pytest.mark.parametrize(
    "change",
    [
        {"text": "x"},
        {"tokens": (9,)},
        {"payload": b"{}"},
        {"channel": Channel.REASONING},
    ],
)
def test_any_difference_ends_it(change: dict[str, object]) -> None:
    frame = Frame(0, Channel.CONTENT, "a", (1,), 5)
    replay = Replay(log([frame]))
    replay.take(HEADER)

    with pytest.raises(NotContinued):
        replay.take(msgspec.structs.replace(frame, **change))


def test_another_header_ends_it() -> None:
    with pytest.raises(NotContinued):
        Replay(log([])).take(msgspec.structs.replace(HEADER, status=503))


def test_nothing_logged_is_all_news() -> None:
    replay = Replay(b"")
    frame = Frame(0, Channel.CONTENT, "a", (1,), 5)

    assert replay.is_over
    assert (replay.take(HEADER), replay.take(frame)) == (HEADER, frame)


def test_what_is_no_log_is_refused() -> None:
    with pytest.raises(ProtocolViolation):
        Replay(log([])[:-1])
