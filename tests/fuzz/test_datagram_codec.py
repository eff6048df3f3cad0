# Invariant: whatever the bytes, the codec returns what they say or raises ProtocolViolation, and
# raises nothing else; a machine that is fed what it returned does the same.
"""Random, cut and damaged datagrams."""

from hypothesis import example, given
from hypothesis import strategies as st

from headstart.stages.datagram_events import AckReceived, LogGrew, SnapshotReceived
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.datagram_sender import DatagramSender
from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import encode
from headstart.stages.wire import (
    DIGEST_BYTES,
    Ack,
    Snapshot,
    decode_datagram,
    encode_ack,
    encode_item,
    encode_slice,
    encode_snapshot,
)
from tests.stages import strategies
from tests.stages.strategies import HEADER, filled

numbers = st.integers(0, (1 << 63) - 1)
items = st.binary().map(encode_slice) | strategies.frames.map(
    lambda frame: encode_item(encode(frame), 0)[0]
)
runs = st.tuples(numbers, numbers, st.lists(items, max_size=4).map(b"".join))
snapshots = st.builds(
    encode_snapshot,
    numbers,
    numbers,
    st.lists(runs, min_size=1, max_size=3),
    st.none() | st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES),
)
acks = st.builds(
    Ack,
    stream=numbers,
    have=numbers,
    newest=numbers,
    num_received=numbers,
    received_us=numbers,
    held_us=numbers,
    rendered_us=st.none() | numbers,
    has_gap=st.booleans(),
    is_complete=st.booleans(),
)
damage = st.tuples(st.integers(0, 1 << 20), st.binary(max_size=4), st.integers(0, 4))


def check(data: bytes) -> None:
    try:
        value = decode_datagram(data)
    except ProtocolViolation:
        return
    try:
        if isinstance(value, Snapshot):
            reader = DatagramReceiver(value.stream)
            reader.feed(SnapshotReceived(value), 0.0)
            reader.expire(5.0)
        else:
            log = filled(HEADER, [])
            log.close()
            sender = DatagramSender(value.stream, log)
            sender.feed(LogGrew(), 0.0)
            sender.feed(AckReceived(value), 0.1)
            sender.expire(1.0)
    except ProtocolViolation:
        return


@given(st.binary() | st.binary().map(lambda rest: b"\x10" + rest))
@example(b"")
@example(b"\x10")
@example(b"\x10\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
@example(b"\x10\x01\x01\x00\x00\x00\x08\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
@example(
    b"\x10\x01\x01\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x10\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01a"
)
def test_bytes_are_a_datagram_or_a_violation(data: bytes) -> None:
    check(data)


@given(snapshots | acks.map(encode_ack), damage)
def test_a_damaged_datagram_is_a_datagram_or_a_violation(
    data: bytes, how: tuple[int, bytes, int]
) -> None:
    position, replacement, length = how
    position %= len(data)
    check(data[:position] + replacement + data[position + length :])


@given(snapshots)
def test_no_truncated_header_is_a_datagram(data: bytes) -> None:
    for cut in range(min(len(data), 64)):
        check(data[:cut])


@given(acks)
def test_an_acknowledgement_comes_back(ack: Ack) -> None:
    if ack.num_received > ack.newest:
        return
    assert decode_datagram(encode_ack(ack)) == ack
