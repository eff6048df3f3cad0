"""The paper's algorithms, step by step."""

import pytest

from headstart.stages import published_eloquent
from headstart.stages.datagram_events import (
    AckReceived,
    Finished,
    LogGrew,
    Render,
    SendAck,
    SenderAction,
    SnapshotReceived,
    Transmit,
)
from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import Channel, Frame
from headstart.stages.published_eloquent import PublishedReceiver, PublishedSender
from headstart.stages.token_log import TokenLog
from headstart.stages.wire import Ack, Snapshot, decode_datagram, log_digest
from tests.stages.strategies import HEADER


@pytest.fixture
def log() -> TokenLog:
    return TokenLog(1 << 20)


@pytest.fixture
def sender(log: TokenLog) -> PublishedSender:
    return PublishedSender(3, log)


def say(log: TokenLog, sender: PublishedSender, now: float) -> Snapshot:
    log.append(Frame(0, Channel.CONTENT, "w", (7,), 0) if log.end else HEADER)
    return only(sender.feed(LogGrew(), now))


def only(actions: list[SenderAction]) -> Snapshot:
    (action,) = actions
    assert isinstance(action, Transmit)
    snapshot = decode_datagram(action.datagram)
    assert isinstance(snapshot, Snapshot)
    return snapshot


def starts(snapshot: Snapshot) -> list[int]:
    return [piece.start for piece in snapshot.pieces]


def test_a_packet_is_the_new_token_and_the_oldest_that_fit(
    log: TokenLog, sender: PublishedSender
) -> None:
    cursors = [say(log, sender, 0.1 * index).pieces[-1].start for index in range(14)]

    assert starts(say(log, sender, 1.4)) == [*cursors[:9], cursors[-1] + 10]


def test_each_packet_is_acknowledged_for_itself(log: TokenLog, sender: PublishedSender) -> None:
    first, second, third = (say(log, sender, 0.1 * index) for index in range(3))
    assert starts(third) == [*starts(second), third.pieces[-1].start]

    sender.feed(AckReceived(Ack(3, 0, newest=2, num_received=1)), 0.4)

    fourth = say(log, sender, 0.5)
    assert starts(fourth) == [third.pieces[-1].start, fourth.pieces[-1].start]
    assert first.number == 1


def test_the_only_timer_runs_200_ms_from_the_last_wake(
    log: TokenLog, sender: PublishedSender
) -> None:
    assert sender.deadline() is None
    first = say(log, sender, 1.0)
    assert sender.deadline() == pytest.approx(1.2)
    assert sender.expire(1.1) == []

    assert starts(only(sender.expire(1.2))) == starts(first)
    assert sender.deadline() == pytest.approx(1.4)


def test_it_ends_when_the_end_is_acknowledged(log: TokenLog, sender: PublishedSender) -> None:
    reader = PublishedReceiver(3)
    say(log, sender, 0.0)
    log.close()
    snapshot = only(sender.feed(LogGrew(), 0.1))
    assert snapshot.digest is not None

    shown, _, acked = reader.feed(SnapshotReceived(snapshot), 0.2)

    assert isinstance(shown, Render)
    assert isinstance(acked, SendAck)
    assert reader.is_complete
    assert reader.deadline() is None
    ack = decode_datagram(acked.datagram)
    assert isinstance(ack, Ack)
    assert sender.feed(AckReceived(ack), 0.3) == [Finished()]
    assert sender.deadline() is None


def test_datagrams_that_are_lost_for_ever_are_forgotten_and_the_rest_still_ends_it(
    log: TokenLog, sender: PublishedSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []

    def digest(data: bytes) -> bytes:
        hashed.append(len(data))
        return log_digest(data)

    monkeypatch.setattr(published_eloquent, "log_digest", digest)
    say(log, sender, 0.0)
    log.close()
    snapshot = only(sender.feed(LogGrew(), 0.1))
    for index in range(5_000):
        snapshot = only(sender.expire(1.0 + index))

    assert len(sender._carried) <= 1024
    assert hashed == [log.end]
    ack = Ack(3, log.end, snapshot.number, is_complete=True)
    assert sender.feed(AckReceived(ack), 9_000.0) == [Finished()]


def test_an_acknowledgement_of_what_was_never_sent_is_refused(
    log: TokenLog, sender: PublishedSender
) -> None:
    say(log, sender, 0.0)
    for ack in (Ack(3, 0, newest=2), Ack(3, log.end + 1, newest=1)):
        with pytest.raises(ProtocolViolation):
            sender.feed(AckReceived(ack), 0.1)
