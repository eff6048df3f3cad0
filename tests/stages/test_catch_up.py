"""A catch-up stream is read in pieces, whatever they are, and held to its range."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.catch_up import CatchUpReader, encode_catch_up_head
from headstart.stages.datagram_events import CatchUp, CatchUpReceived
from headstart.stages.errors import ProtocolViolation
from headstart.stages.wire import Piece

NUMBERS = st.integers(0, 1 << 40)


@given(stream=NUMBERS, start=NUMBERS, data=st.binary(max_size=300), cuts=st.lists(st.integers(1)))
def test_every_way_of_cutting_gives_the_same_bytes(
    stream: int, start: int, data: bytes, cuts: list[int]
) -> None:
    sent = encode_catch_up_head(stream, CatchUp(start, start + len(data))) + data
    reader, position, found = CatchUpReader(), 0, b""

    for cut in [*cuts, len(sent)]:
        for event in reader.read(sent[position : position + cut]):
            assert event.piece.start == start + len(found)
            found += event.piece.data
        position += cut

    assert found == data
    assert reader.stream == stream
    assert reader.is_whole


def test_pieces_are_handed_on_before_the_whole_is_there() -> None:
    reader = CatchUpReader()
    head = encode_catch_up_head(3, CatchUp(100, 110))

    assert reader.read(head[:2]) == []
    assert reader.read(head[2:] + b"ab") == [CatchUpReceived(Piece(100, b"ab"))]
    assert not reader.is_whole


def test_a_byte_past_the_range_is_refused() -> None:
    reader = CatchUpReader()
    reader.read(encode_catch_up_head(3, CatchUp(100, 102)) + b"a")

    with pytest.raises(ProtocolViolation, match="range"):
        reader.read(b"bc")


@pytest.mark.parametrize("junk", [b"\x00", b"\x12rest", b"\x23", b"\x13" + b"\xff" * 20])
def test_what_is_no_catch_up_stream_is_refused(junk: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        CatchUpReader().read(junk)


@given(st.binary(max_size=60))
def test_junk_is_refused_or_read_and_nothing_else(junk: bytes) -> None:
    with suppress(ProtocolViolation):
        CatchUpReader().read(b"\x13" + junk)
