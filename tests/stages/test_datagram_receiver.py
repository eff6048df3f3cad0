"""What one reader shows, and what it answers."""

from hashlib import sha256

import pytest

from headstart.stages.datagram_events import (
    Attach,
    CatchUpReceived,
    Complete,
    PathQuiet,
    ReceiverAction,
    Render,
    Rendered,
    SendAck,
    SnapshotReceived,
)
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import Channel, Frame, encode
from headstart.stages.wire import Ack, Piece, Snapshot, decode_datagram
from tests.stages.strategies import HEADER

RECORDS = [encode(HEADER), *(encode(Frame(0, Channel.CONTENT, w, (7,), 5)) for w in ("a", "流é"))]
WHOLE = b"".join(RECORDS)
DIGEST = sha256(WHOLE).digest()[:8]


def snapshot(
    start: int, stop: int, number: int = 1, digest: bytes | None = None
) -> SnapshotReceived:
    return SnapshotReceived(Snapshot(3, number, (Piece(start, WHOLE[start:stop]),), digest))


def ack_of(actions: list[ReceiverAction]) -> Ack:
    (action,) = (action for action in actions if isinstance(action, SendAck))
    ack = decode_datagram(action.datagram)
    assert isinstance(ack, Ack)
    return ack


@pytest.fixture
def reader() -> DatagramReceiver:
    return DatagramReceiver(3)


def test_bytes_are_handed_on_once(reader: DatagramReceiver) -> None:
    first = reader.feed(snapshot(0, len(RECORDS[0])), 1.0)
    again = reader.feed(snapshot(0, len(RECORDS[0]), 2), 1.1)
    rest = reader.feed(snapshot(0, len(WHOLE), 3), 1.2)

    assert first == [Render(0, RECORDS[0])]
    assert not any(isinstance(action, Render) for action in again)
    assert rest[0] == Render(len(RECORDS[0]), RECORDS[1] + RECORDS[2])


def test_the_acknowledgement_says_when_it_was_received_and_shown(reader: DatagramReceiver) -> None:
    reader.feed(Attach(), 1.0)
    reader.feed(snapshot(0, len(WHOLE)), 2.0)

    ack = ack_of(reader.feed(Rendered(len(WHOLE)), 2.004))

    assert ack == Ack(3, len(WHOLE), 1, 1, 1_000_000, 4_000, 4_000)


def test_a_screen_that_is_slow_does_not_hold_up_the_acknowledgement(
    reader: DatagramReceiver,
) -> None:
    reader.feed(snapshot(0, len(WHOLE)), 2.0)

    assert reader.deadline() == float("-inf")
    assert ack_of(reader.expire(2.0)).rendered_us is None


def test_acknowledgements_are_ten_milliseconds_apart(reader: DatagramReceiver) -> None:
    assert ack_of(reader.feed(Attach(), 1.0)).have == 0

    assert reader.feed(snapshot(5, 6, 1), 1.002) == []
    assert reader.feed(snapshot(5, 7, 2), 1.004) == []
    assert reader.deadline() == pytest.approx(1.01)

    ack = ack_of(reader.expire(1.01))
    assert (ack.newest, ack.num_received, ack.has_gap) == (2, 2, True)


def test_what_lies_past_a_gap_waits(reader: DatagramReceiver) -> None:
    assert ack_of(reader.feed(snapshot(len(RECORDS[0]), len(WHOLE)), 1.0)).has_gap

    actions = reader.feed(CatchUpReceived(Piece(0, RECORDS[0])), 1.1)

    assert actions[0] == Render(0, WHOLE)


def test_part_of_a_record_is_not_shown(reader: DatagramReceiver) -> None:
    (action,) = reader.feed(snapshot(0, len(WHOLE) - 6), 1.0)

    assert action == Render(0, RECORDS[0] + RECORDS[1])
    assert reader.have == len(WHOLE) - 6


def test_the_end_is_checked(reader: DatagramReceiver) -> None:
    actions = reader.feed(snapshot(0, len(WHOLE), digest=DIGEST), 1.0)
    assert actions[-1] == Complete()
    assert ack_of(reader.expire(1.0)).is_complete

    # The sender did not hear it, and asks again.
    assert ack_of(reader.feed(snapshot(0, len(WHOLE), 2, DIGEST), 9.0)).is_complete
    assert reader.deadline() is None


@pytest.mark.parametrize(
    "events",
    [
        [snapshot(0, len(WHOLE), digest=b"12345678")],
        [snapshot(0, len(WHOLE) - 1, digest=sha256(WHOLE[:-1]).digest()[:8])],
        [snapshot(0, 20, 1, DIGEST), snapshot(0, 30, 2)],
        [snapshot(0, len(WHOLE), 1), snapshot(0, 5, 2, DIGEST)],
        [snapshot(0, 20), SnapshotReceived(Snapshot(3, 2, (Piece(3, b"other"),)))],
    ],
    ids=["digest", "inside a record", "past the end", "before the cursor", "contradiction"],
)
def test_contradictions_are_refused(events: list[SnapshotReceived]) -> None:
    reader = DatagramReceiver(3)

    def feed_all() -> None:
        for event in events:
            reader.feed(event, 1.0)

    with pytest.raises(ProtocolViolation):
        feed_all()


def test_a_quiet_path_is_pinged_and_then_given_up(reader: DatagramReceiver) -> None:
    reader.feed(snapshot(0, len(RECORDS[0])), 1.0)
    reader.expire(1.0)
    seen: list[tuple[float, ReceiverAction]] = []
    for _ in range(6):
        at = reader.deadline()
        assert at is not None
        seen += [(round(at, 2), action) for action in reader.expire(at)]

    assert [at for at, action in seen if isinstance(action, SendAck)][:3] == [2.0, 3.0, 4.0]
    assert [at for at, action in seen if isinstance(action, PathQuiet)] == [4.0]


def test_memory_past_a_gap_is_bounded(reader: DatagramReceiver) -> None:
    for number in range(1, 3_000):
        piece = Piece(1_000 * number, bytes(1_000))
        reader.feed(SnapshotReceived(Snapshot(3, number, (piece,))), 1.0)

    assert reader._waiting_bytes <= 1 << 20
    assert reader.have == 0


def test_reordered_datagrams_are_each_counted_once(reader: DatagramReceiver) -> None:
    for number in (5, 3, 3, 4, 5, 5_000, 1, 4_999):
        reader.feed(snapshot(0, 1, number), 1.0)

    ack = ack_of(reader.feed(Attach(), 2.0))

    assert (ack.newest, ack.num_received) == (5_000, 5)
