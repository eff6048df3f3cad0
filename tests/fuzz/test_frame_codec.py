# Invariant: whatever the bytes, the codec returns what they say or raises ProtocolViolation. It
# raises nothing else, and no part of a record passes for a record.
"""Random, cut and damaged records."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import (
    Frame,
    StreamHeader,
    decode_frame,
    decode_header,
    encode,
    record_bounds,
)
from tests.stages import strategies

NESTED = b"\x91" * 100_000 + b"\x00"

anything = st.recursive(
    st.none() | st.booleans() | strategies.integers | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | strategies.integers, inner),
)
"""Whatever MessagePack can say."""

bodies = st.one_of(
    st.binary(),
    anything.map(msgspec.msgpack.encode),
    st.lists(anything, min_size=5, max_size=8).map(msgspec.msgpack.encode),
)


def damaged(data: bytes, position: int, replacement: bytes, length: int) -> bytes:
    position %= len(data)
    return data[:position] + replacement + data[position + length :]


damage = st.tuples(st.integers(0, 1 << 20), st.binary(max_size=4), st.integers(0, 4))


@given(strategies.frames | strategies.headers)
def test_no_truncation_is_a_record(record: Frame | StreamHeader) -> None:
    data = encode(record)
    ((start, stop),) = record_bounds(data)
    decode = decode_frame if isinstance(record, Frame) else decode_header

    assert list(record_bounds(b"")) == []
    for cut in range(1, stop):
        with pytest.raises(ProtocolViolation):
            list(record_bounds(data[:cut]))
    for cut in range(start, stop):
        with pytest.raises(ProtocolViolation):
            decode(data[start:cut])


@given(bodies)
@example(b"\x97\x00\x00\xa0\x90\x00\xc0" + NESTED)
@example(b"\x98\x00\xa0\xa0\xa0\xa0\x00\x01" + NESTED)
@example(b"\x96\x00\x00\xa0" + NESTED)
@example(b"\x96\x00\x00\xa0\xdd\xff\xff\xff\xff")
@example(b"\x96\x00\x00\xdb\xff\xff\xff\xff")
@example(b"\x96\x00\x00\xa1\xff\x90\x00\xc0")
@example(NESTED)
def test_a_body_is_a_record_or_a_violation(body: bytes) -> None:
    check_body(body)


@given(strategies.frames | strategies.headers, damage)
def test_a_damaged_body_is_a_record_or_a_violation(
    record: Frame | StreamHeader, how: tuple[int, bytes, int]
) -> None:
    data = encode(record)
    ((start, _),) = record_bounds(data)

    check_body(damaged(data[start:], *how))


@given(st.lists(strategies.frames, min_size=1), damage)
def test_damaged_records_are_whole_records_or_a_violation(
    answer: list[Frame], how: tuple[int, bytes, int]
) -> None:
    check_bounds(damaged(b"".join(map(encode, answer)), *how))


@given(st.binary())
@example(b"\xff\xff\xff\xff\x01")
@example(b"\xff\xff\xff\x7f")
def test_bytes_are_whole_records_or_a_violation(data: bytes) -> None:
    check_bounds(data)


def check_body(body: bytes) -> None:
    for decode in (decode_frame, decode_header):
        record: Any
        try:
            record = decode(body)
        except ProtocolViolation:
            continue
        ((start, _),) = record_bounds(data := encode(record))
        assert decode(data[start:]) == record


def check_bounds(data: bytes) -> None:
    last = 0
    try:
        for start, stop in record_bounds(data):
            assert last < start <= stop <= len(data)
            last = stop
    except ProtocolViolation:
        return
    assert last == len(data)
