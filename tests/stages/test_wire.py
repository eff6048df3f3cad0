"""What a datagram's bytes say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import Channel, Frame, StreamHeader, encode
from headstart.stages.record_cut import last_cut, text_span
from headstart.stages.snapshot_window import SnapshotWindow
from headstart.stages.token_log import TokenLog
from headstart.stages.wire import (
    Ack,
    Piece,
    Snapshot,
    decode_datagram,
    encode_ack,
    encode_item,
    encode_snapshot,
    max_snapshot_overhead,
)
from tests.stages import strategies
from tests.stages.strategies import HEADER, filled

STEP = Frame(0, Channel.CONTENT, " the", (260,), 1_020_000)


def words(count: int) -> list[Frame]:
    return [
        Frame(0, Channel.CONTENT, " word"[: 2 + i % 4], (300 + i,), 10_000 * i)
        for i in range(count)
    ]


def test_a_plain_step_is_ten_bytes() -> None:
    item, reference_us = encode_item(encode(STEP), 1_000_000)

    assert item == b"\x40" + b"\xa0\x9c\x01" + b"\x84\x02" + b" the"
    assert reference_us == 1_020_000


def test_a_snapshot_says_where_it_starts() -> None:
    item, _ = encode_item(encode(STEP), 1_000_000)
    data = encode_snapshot(5, 9, [(300, 1_000_000, item)])

    assert data == b"\x10\x05\x09\x00" + b"\xac\x02" + b"\xc0\x84\x3d" + item
    assert decode_datagram(data) == Snapshot(5, 9, (Piece(300, encode(STEP)),))


def test_an_acknowledgement_takes_about_twenty_bytes() -> None:
    ack = Ack(5, 4_000, 300, 290, 30_000_000, 9_000, 400, has_gap=True)

    data = encode_ack(ack)

    assert decode_datagram(data) == ack
    assert len(data) <= 20


@given(st.lists(strategies.frames | strategies.headers), st.integers(0, 1 << 40))
def test_items_come_back_as_the_logs_own_bytes(
    records: list[Frame | StreamHeader], start_us: int
) -> None:
    items, reference_us = b"", start_us
    for record in records:
        item, reference_us = encode_item(encode(record), reference_us)
        items += item
    data = encode_snapshot(1, 2, [(7, start_us, items)], b"checksum")

    snapshot = decode_datagram(data)

    piece = Piece(7, b"".join(map(encode, records)))
    assert snapshot == Snapshot(1, 2, (piece,), b"checksum")
    assert len(data) - len(items) <= max_snapshot_overhead(1, 2, 7)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x20\x01\x01\x00\x00\x00", b"\x1f\x00", b"\x13"])
def test_another_version_or_kind_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        decode_datagram(data)


@given(strategies.frames)
def test_the_text_of_a_record_is_found(frame: Frame) -> None:
    record = encode(frame)

    span = text_span(record)

    assert span is not None
    assert record[slice(*span)] == frame.text.encode()


@given(strategies.frames, st.data())
def test_no_cut_is_inside_a_code_point(frame: Frame, data: st.DataObject) -> None:
    record = encode(frame)
    stop = data.draw(st.integers(1, len(record)))

    cut = last_cut(record, stop)

    assert stop - 3 <= cut <= stop
    start, end = text_span(record) or (0, 0)
    if start <= cut <= end:
        assert frame.text.startswith(record[start:cut].decode())


@given(strategies.headers | st.binary().map(lambda text: StreamHeader(200, text.hex())))
def test_a_header_has_no_text(header: StreamHeader) -> None:
    assert text_span(encode(header)) is None


@given(
    st.lists(
        strategies.frames | st.text(min_size=80).map(lambda t: Frame(0, Channel.TOOL, t, (), 0))
    ),
    st.integers(16, 400),
)
def test_a_window_is_taken_bit_by_bit(answer: list[Frame], room: int) -> None:
    log = filled(HEADER, answer)
    window = SnapshotWindow(log, 0)
    window.extend(log.end)
    whole, base = log.read(0), 0

    while base < log.end:
        reference_us, items, reached = window.take(base, room)
        assert len(items) <= room
        assert reached > base
        snapshot = decode_datagram(encode_snapshot(1, 1, [(base, reference_us, items)]))
        assert isinstance(snapshot, Snapshot)
        assert snapshot.pieces == (Piece(base, whole[base:reached]),)
        base = reached


def test_records_that_fit_are_not_cut() -> None:
    log = filled(HEADER, words(100))
    window = SnapshotWindow(log, log.header_end)
    window.extend(log.end)

    _, items, reached = window.take(log.header_end, 200)

    assert 180 < len(items) <= 200
    assert log.check_cursor(reached) == reached


def test_the_tip_is_all_that_fits_at_the_end() -> None:
    log = filled(HEADER, words(100))
    window = SnapshotWindow(log, log.header_end)
    window.extend(log.end)

    base = window.tip(200, not_after=log.end)
    _, items, reached = window.take(base, 200)

    assert (reached, log.check_cursor(base)) == (log.end, base)
    assert len(items) > 180
    assert window.tip(200, not_after=base - 1) == base - 1


def test_what_is_confirmed_is_forgotten_in_batches() -> None:
    log = filled(HEADER, words(1_000))
    window = SnapshotWindow(log, 0)
    window.extend(log.end)
    expected = window.take(log.end - 60, 400)

    window.forget(log.end - 60)

    assert window.start > log.end - 200
    assert window.take(log.end - 60, 400) == expected


def test_records_appended_later_are_taken_on() -> None:
    log = TokenLog(1 << 20)
    window = SnapshotWindow(log, 0)
    log.append(HEADER)
    window.extend(1)
    log.append(STEP)
    window.extend(1 << 20)

    assert (window.start, window.end) == (0, log.end)
    assert window.coded_bytes(log.header_end) < len(encode(STEP))
