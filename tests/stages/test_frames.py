"""The one encoding of a token log's records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages import frames
from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import (
    FORMAT_VERSION,
    Channel,
    Frame,
    StreamHeader,
    decode_frame,
    decode_header,
    encode,
    record_bounds,
)
from tests.stages import strategies
from tests.stages.strategies import HEADER


@given(st.lists(strategies.frames))
def test_frames_come_back_as_they_were_encoded(answer: list[Frame]) -> None:
    data = b"".join(map(encode, answer))

    assert [decode_frame(data[start:stop]) for start, stop in record_bounds(data)] == answer


@given(strategies.headers)
def test_header_comes_back_as_it_was_encoded(header: StreamHeader) -> None:
    data = encode(header)
    ((start, stop),) = record_bounds(data)

    assert stop == len(data)
    assert decode_header(data[start:stop]) == header


@given(strategies.frames)
def test_body_may_be_a_view(frame: Frame) -> None:
    data = encode(frame)
    ((start, stop),) = record_bounds(data)

    assert decode_frame(memoryview(data)[start:stop]) == frame


@pytest.mark.parametrize(
    ("body_bytes", "prefix_bytes"),
    [(127, 1), (128, 2), (2**14 - 1, 2), (2**14, 3), (2**21 - 1, 3), (2**21, 4)],
)
def test_length_prefix_takes_seven_bits_a_byte(body_bytes: int, prefix_bytes: int) -> None:
    def sized(num_payload_bytes: int) -> bytes:
        return encode(Frame(0, Channel.EVENT, "", (), 0, bytes(num_payload_bytes)))

    # The payload's own MessagePack header grows with it, by a few bytes.
    data = next(
        data
        for overhead in range(16)
        if (data := sized(body_bytes - overhead)) and len(data) == body_bytes + prefix_bytes
    )

    assert list(record_bounds(data)) == [(prefix_bytes, len(data))]


def test_record_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Frame(0, Channel.EVENT, "", (), 0, bytes(1000))
    size = len(encode(frame)) - 2

    monkeypatch.setattr(frames, "MAX_RECORD_BYTES", size + 1)
    encode(frame)
    monkeypatch.setattr(frames, "MAX_RECORD_BYTES", size)
    with pytest.raises(ProtocolViolation, match=f"a record of {size} bytes"):
        encode(frame)


def test_length_of_more_than_four_bytes_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="a number of more than 4 bytes"):
        list(record_bounds(b"\x80\x80\x80\x80\x00"))


def test_header_of_another_version_is_refused() -> None:
    other = encode(StreamHeader(200, "text/plain", version=FORMAT_VERSION + 1))[1:]

    with pytest.raises(ProtocolViolation, match=f"format {FORMAT_VERSION + 1}"):
        decode_header(other)


def test_a_header_is_no_frame_and_a_frame_no_header() -> None:
    frame = encode(Frame(0, Channel.CONTENT, "a", (1,), 5))[1:]

    with pytest.raises(ProtocolViolation, match="not a stream header"):
        decode_header(frame)
    with pytest.raises(ProtocolViolation, match="not a frame"):
        decode_frame(encode(HEADER)[1:])


def test_plain_delta_costs_fifteen_bytes_and_its_text() -> None:
    one_minute_in = Frame(0, Channel.CONTENT, " token", (49_151,), 60_000_000)

    assert len(encode(one_minute_in)) == 15 + len(" token")


@pytest.mark.parametrize(
    ("content_type", "is_event_stream"),
    [
        ("text/event-stream", True),
        ("text/event-stream; charset=utf-8", True),
        ("application/json", False),
    ],
)
def test_content_type_tells_an_event_stream(content_type: str, is_event_stream: bool) -> None:
    assert StreamHeader(200, content_type).is_event_stream is is_event_stream
