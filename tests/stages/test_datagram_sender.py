"""What one sender sends, and when."""

from itertools import pairwise

import pytest

from headstart.stages.datagram_events import (
    AckReceived,
    CarrierBlocked,
    CarrierReady,
    CatchUp,
    Cause,
    Finished,
    LogGrew,
    PathChanged,
    ReaderAdvanced,
    SenderAction,
    SenderEvent,
    Transmit,
)
from headstart.stages.datagram_sender import DatagramSender, SenderLimits
from headstart.stages.errors import BadRequest, ProtocolViolation
from headstart.stages.frames import Channel, Frame
from headstart.stages.token_log import TokenLog
from headstart.stages.wire import Ack, Snapshot, decode_datagram
from tests.stages.strategies import HEADER, filled

RTT_S = 0.1
SLACK_S = 0.01
"""Half of the shortest frame."""


class Bench:
    """A sender, its log, and a clock."""

    def __init__(self, limits: SenderLimits | None = None) -> None:
        self.log = filled(HEADER, [])
        self.sender = DatagramSender(3, self.log, limits=limits, rtt_s=RTT_S)
        self.now = 10.0
        self.number = 0

    def say(self, text: str = " word") -> list[SenderAction]:
        self.log.append(Frame(0, Channel.CONTENT, text, (7,), self.log.end))
        return self.feed(LogGrew())

    def close(self) -> list[SenderAction]:
        self.log.close()
        return self.feed(LogGrew())

    def feed(self, event: SenderEvent) -> list[SenderAction]:
        return self.seen(self.sender.feed(event, self.now))

    def ack(self, have: int | None = None, **claims: int | bool | None) -> list[SenderAction]:
        have = self.log.end if have is None else have
        number = claims.pop("newest", self.number)
        assert isinstance(number, int)
        ack = Ack(3, have, number, min(number, self.number), **claims)  # type: ignore[arg-type]
        return self.feed(AckReceived(ack))

    def wake(self) -> list[SenderAction]:
        due = self.sender.deadline()
        assert due is not None
        self.now = max(self.now, due)
        return self.seen(self.sender.expire(self.now))

    def seen(self, actions: list[SenderAction]) -> list[SenderAction]:
        self.number += sum(isinstance(action, Transmit) for action in actions)
        return actions


def only(actions: list[SenderAction]) -> tuple[Cause, Snapshot]:
    (action,) = (action for action in actions if isinstance(action, Transmit))
    snapshot = decode_datagram(action.datagram)
    assert isinstance(snapshot, Snapshot)
    return action.cause, snapshot


@pytest.fixture
def bench() -> Bench:
    """A bench whose reader has everything, after a round trip."""
    bench = Bench()
    bench.say()
    bench.now += RTT_S
    bench.ack()
    bench.now += 0.5
    return bench


def test_the_first_datagram_leaves_at_once_with_the_header() -> None:
    bench = Bench()

    cause, snapshot = only(bench.say())

    assert cause is Cause.NEW
    assert snapshot.pieces[0].data == bench.log.read(0)


def test_every_datagram_carries_what_is_not_confirmed(bench: Bench) -> None:
    confirmed = bench.log.end
    bench.say()
    bench.now += 0.06

    _, snapshot = only(bench.say())

    assert snapshot.pieces[0].start == confirmed
    assert snapshot.pieces[0].stop == bench.log.end


def test_tokens_of_one_frame_time_leave_as_one_datagram(bench: Bench) -> None:
    only(bench.say())

    bench.now += 0.005
    assert bench.say() == bench.say() == []
    started = bench.now
    cause, snapshot = only(bench.wake())

    assert cause is Cause.NEW
    assert snapshot.pieces[0].stop == bench.log.end
    assert bench.now - started <= bench.sender.frame_s <= 0.05


def test_a_late_datagram_does_not_make_those_after_it_wait() -> None:
    bench = Bench()
    only(bench.say())
    began, frame_s = bench.now, bench.sender.frame_s

    for late_s in (0.0, 0.008, 0.0, 0.0, 0.008):
        began += frame_s
        bench.now = began + late_s
        only(bench.say())


def test_new_text_keeps_its_pace_in_the_long_run() -> None:
    bench = Bench()
    only(bench.say())
    began, sent_at = bench.now, [bench.now]

    while len(sent_at) < 100:
        bench.now += 0.001
        if any(isinstance(action, Transmit) for action in bench.say()):
            sent_at.append(bench.now)

    gaps = [after - before for before, after in pairwise(sent_at)]
    assert min(gaps) >= bench.sender.frame_s - SLACK_S - 1e-4
    assert bench.now - began >= 99 * bench.sender.frame_s - SLACK_S - 1e-4


def test_what_a_blocked_carrier_kept_back_is_built_anew(bench: Bench) -> None:
    bench.feed(CarrierBlocked())
    assert bench.say() == []
    bench.now += 1
    assert bench.say() == []
    assert bench.sender.deadline() is None

    _, snapshot = only(bench.feed(CarrierReady()))

    assert snapshot.pieces[0].stop == bench.log.end


def test_a_pause_repeats_and_then_probes(bench: Bench) -> None:
    only(bench.say())
    causes = [only(bench.wake())[0] for _ in range(12)]

    assert causes[0] is Cause.REPEAT
    assert causes[-1] is Cause.PROBE
    before = bench.now
    bench.wake()
    assert bench.now - before == pytest.approx(0.4)


def test_a_confirmed_tail_is_not_repeated(bench: Bench) -> None:
    bench.say()
    bench.now += RTT_S
    bench.ack()

    assert only(bench.wake())[0] is Cause.HEARTBEAT


def test_a_gap_is_repaired_from_the_readers_cursor(bench: Bench) -> None:
    confirmed = bench.log.end
    for _ in range(4):
        bench.say()
        bench.now += 0.06
    bench.sender._last_base = bench.log.end

    cause, snapshot = only(bench.ack(confirmed, has_gap=True))

    assert cause is Cause.REPAIR
    assert snapshot.pieces[0].start == confirmed


def test_a_gap_that_a_stream_is_closing_is_not_repaired(bench: Bench) -> None:
    confirmed = bench.log.end
    bench.log.append(Frame(0, Channel.EVENT, "", (), 0, bytes(10_000)))
    bench.feed(LogGrew())
    bench.now += RTT_S
    assert any(isinstance(action, CatchUp) for action in bench.ack(confirmed))
    causes = []
    for _ in range(5):
        bench.now += RTT_S
        causes.append(only(bench.say())[0])
        actions = bench.ack(confirmed, has_gap=True)
        causes += [action.cause for action in actions if isinstance(action, Transmit)]

    assert causes == [Cause.NEW] * 5


def test_the_end_is_sent_with_its_digest_until_it_is_confirmed(bench: Bench) -> None:
    _, snapshot = only(bench.close())
    assert snapshot.digest is not None
    assert only(bench.wake())[1].digest == snapshot.digest

    assert Finished() in bench.ack(is_complete=True)

    assert bench.sender.deadline() is None
    assert bench.feed(LogGrew()) == []


@pytest.mark.parametrize(
    ("have", "claims"),
    [(1 << 20, {}), (0, {"newest": 99}), (None, {"is_complete": True})],
    ids=["bytes", "datagrams", "end"],
)
def test_an_acknowledgement_of_what_was_never_sent_is_refused(
    bench: Bench, have: int | None, claims: dict[str, int | bool | None]
) -> None:
    with pytest.raises(ProtocolViolation):
        bench.ack(have, **claims)


def test_bytes_in_the_log_that_were_not_sent_are_not_confirmed(bench: Bench) -> None:
    bench.say()
    bench.now += 0.001
    assert bench.say() == []

    with pytest.raises(ProtocolViolation, match="never sent"):
        bench.ack()


def test_old_news_is_ignored(bench: Bench) -> None:
    assert bench.ack(0, newest=1) == []
    assert bench.sender.confirmed == bench.log.end


def test_the_readers_times_move_onto_the_senders_clock(bench: Bench) -> None:
    sent_at = bench.now
    bench.say()
    bench.now += RTT_S

    (advanced,) = bench.ack(received_us=10_550_000, held_us=4_000, rendered_us=2_000)

    assert isinstance(advanced, ReaderAdvanced)
    assert advanced.cursor == bench.log.end
    assert advanced.sent_at == sent_at
    assert advanced.rendered_at is not None
    assert sent_at <= advanced.delivered_at < advanced.rendered_at <= bench.now
    assert not advanced.was_clamped


def test_another_path_has_another_round_trip_and_the_same_text_to_confirm(bench: Bench) -> None:
    bench.say()
    assert bench.sender.round_trip.min_s == pytest.approx(RTT_S, abs=0.01)

    bench.feed(PathChanged())
    bench.now += 3 * RTT_S
    bench.ack()

    assert bench.sender.round_trip.min_s == pytest.approx(3 * RTT_S, abs=0.01)
    assert bench.sender.confirmed == bench.log.end


def test_impossible_times_are_clamped(bench: Bench) -> None:
    bench.say()
    sent_at, bench.now = bench.now, bench.now + RTT_S

    (advanced,) = bench.ack(received_us=1 << 60, held_us=1 << 60, rendered_us=1 << 61)

    assert isinstance(advanced, ReaderAdvanced)
    assert sent_at <= advanced.delivered_at <= bench.now
    assert advanced.rendered_at == bench.now
    assert advanced.was_clamped


def test_an_impossible_hold_is_not_taken_for_the_shortest_round_trip(bench: Bench) -> None:
    before_s = bench.sender._clock_offset.uncertainty_s
    bench.say()
    bench.now += 5 * RTT_S
    bench.ack(received_us=10_700_000, held_us=1 << 40)

    assert bench.sender._clock_offset.uncertainty_s == before_s > 0


@pytest.mark.parametrize("moved_s", [-60, -0.09, 0.09, 60])
def test_a_time_of_delivery_that_was_moved_beyond_doubt_is_clamped(
    bench: Bench, moved_s: float
) -> None:
    # Both clocks say the same, as far as half a round trip of a tenth of that can tell.
    for _ in range(70):
        bench.say()
        bench.now += RTT_S / 10
        bench.ack(received_us=round((bench.now - RTT_S / 20) * 1e6))
        bench.now += RTT_S
    bench.say()
    sent_at, bench.now = bench.now, bench.now + RTT_S

    (advanced,) = bench.ack(received_us=round((sent_at + RTT_S / 2 + moved_s) * 1e6))

    assert isinstance(advanced, ReaderAdvanced)
    assert sent_at <= advanced.delivered_at <= bench.now
    assert advanced.was_clamped


def test_what_outgrows_two_datagrams_is_caught_up_over_a_stream(bench: Bench) -> None:
    confirmed = bench.log.end
    bench.log.append(Frame(0, Channel.EVENT, "", (), 0, bytes(10_000)))
    bench.feed(LogGrew())
    bench.now += RTT_S
    reached = confirmed + 200

    actions = bench.ack(reached)

    assert CatchUp(reached, bench.log.end) in actions
    bench.now += 0.1
    cause, snapshot = only(bench.say())
    assert cause is Cause.NEW
    assert len(snapshot.pieces[0].data) < 100
    assert not any(isinstance(action, CatchUp) for action in bench.wake())


@pytest.mark.parametrize("silence_s", [RTT_S, 3.0], ids=["steady", "blackout"])
def test_after_a_silence_a_stream_catches_up_what_one_datagram_cannot(
    bench: Bench, silence_s: float
) -> None:
    confirmed = bench.log.end
    for _ in range(6):
        bench.log.append(Frame(0, Channel.EVENT, "", (), 0, bytes(250)))
    bench.feed(LogGrew())
    until, bench.now = bench.now + silence_s, bench.now + 0.001
    while (due := bench.sender.deadline()) is not None and due < until:
        bench.wake()
    bench.now = until

    actions = bench.ack(confirmed)

    caught_up = [action for action in actions if isinstance(action, CatchUp)]
    assert caught_up == ([CatchUp(confirmed, bench.log.end)] if silence_s > 1 else [])


def test_an_acknowledgement_of_a_streams_bytes_does_not_end_the_silence_of_datagrams(
    bench: Bench,
) -> None:
    confirmed, newest = bench.log.end, bench.number
    for _ in range(6):
        bench.log.append(Frame(0, Channel.EVENT, "", (), 0, bytes(250)))
    bench.feed(LogGrew())
    actions: list[SenderAction] = []
    for reached in range(confirmed + 1, confirmed + 11):
        bench.now += RTT_S / 2
        actions += bench.ack(reached, newest=newest)

    assert any(isinstance(action, CatchUp) for action in actions)


def test_what_a_stream_catches_up_may_be_acknowledged_and_nothing_past_it(bench: Bench) -> None:
    bench.log.append(Frame(0, Channel.EVENT, "", (), 0, bytes(10_000)))
    bench.feed(LogGrew())
    bench.now += RTT_S
    bench.ack(bench.log.end - 9_000)
    sent = bench.log.end
    bench.log.append(Frame(0, Channel.CONTENT, "later", (1,), 0))

    with pytest.raises(ProtocolViolation, match="never sent"):
        bench.ack(bench.log.end)
    bench.ack(sent)

    assert bench.sender.confirmed == sent


def test_a_stream_is_not_opened_into_silence(bench: Bench) -> None:
    bench.log.append(Frame(0, Channel.EVENT, "", (), 0, bytes(10_000)))
    actions = bench.feed(LogGrew())
    for _ in range(20):
        actions += bench.wake()

    assert not any(isinstance(action, CatchUp) for action in actions)


def test_one_stream_keeps_to_its_rate() -> None:
    bench = Bench(SenderLimits(bytes_per_s=10_000))
    size = 0
    for _ in range(500):
        sent = [*bench.say(" a long enough text to fill it up"), *bench.wake()]
        size += sum(len(action.datagram) for action in sent if isinstance(action, Transmit))
    assert size <= 10_000 * (bench.now - 10) + 3 * 1_150


@pytest.mark.parametrize("have", [1, 1_000], ids=["inside a record", "past the end"])
def test_a_cursor_that_is_none_is_refused(have: int) -> None:
    with pytest.raises(BadRequest):
        DatagramSender(3, filled(HEADER, []), have=have)


def test_a_tiny_payload_is_refused() -> None:
    with pytest.raises(ProtocolViolation):
        DatagramSender(3, TokenLog(10), limits=SenderLimits(max_payload=127))


def test_what_a_silent_reader_is_behind_with_is_bounded(bench: Bench) -> None:
    limit = 16 * bench.sender.limits.max_payload
    bench.say()
    bench.ack()
    for _ in range(2000):
        bench.now += 0.05
        bench.say(" word" * 8)
    assert bench.log.end > 4 * limit
    assert bench.sender._window.end - bench.sender.confirmed < limit + 200

    # And one that confirms everything is never held up by records that are not dropped yet.
    brisk = Bench()
    for _ in range(600):
        brisk.now += 0.1
        brisk.say(" word" * 20)
        brisk.ack()
        assert brisk.sender.confirmed == brisk.log.end
    assert brisk.sender.confirmed == brisk.log.end > 3 * limit
