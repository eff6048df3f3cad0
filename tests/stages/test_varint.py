"""Numbers come back as they were put, and a peer cannot make them endless."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.errors import ProtocolViolation
from headstart.stages.varint import MAX_VARINT_BYTES, pull_varint, put_varint, varint_bytes


@given(st.integers(0, (1 << 63) - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_a_number_comes_back_from_wherever_it_is(value: int, before: bytes, after: bytes) -> None:
    put = put_varint(value)

    assert len(put) == varint_bytes(value) <= MAX_VARINT_BYTES
    assert pull_varint(before + put + after, len(before)) == (value, len(before + put))
    for size in range(len(put)):
        assert pull_varint(before + put[:size], len(before)) is None


def test_a_number_that_is_too_long_is_refused_before_its_end() -> None:
    with pytest.raises(ProtocolViolation, match="more than 9 bytes"):
        pull_varint(b"\xff" * 9)
    assert pull_varint(b"\xff" * 8) is None
    with pytest.raises(ProtocolViolation, match="more than 2 bytes"):
        pull_varint(b"\x00\xff\xff\x01", 1, max_bytes=2)
