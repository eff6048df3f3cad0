"""How much may be in flight, and when it is over."""

from itertools import pairwise
from random import Random

import pytest

from headstart.stages.congestion import (
    ByteRate,
    CircuitBroken,
    PacketAcked,
    PacketForgotten,
    PacketLost,
    PacketSent,
    TokenCongestion,
    TripReason,
)
from headstart.stages.path_estimate import LossMeter, RoundTrip
from headstart.stages.repeat_policy import RepeatPolicy

INITIAL = 12_000


class Path:
    """Sends packets and has some of them lost, in virtual time."""

    def __init__(self) -> None:
        self.congestion = TokenCongestion(0.1)
        self.now = 0.0
        self.lost = 0.0
        self.actions: list[CircuitBroken] = []
        self.flying: list[tuple[float, int, bool, bool]] = []

    def run(
        self,
        seconds: float,
        loss: float,
        rtt_s: float,
        size: int = 500,
        per_s: int = 50,
        is_reliable: bool = False,
    ) -> None:
        flying = self.flying
        for _ in range(int(seconds * per_s)):
            self.now += 1 / per_s
            while flying and flying[0][0] + rtt_s <= self.now:
                sent_at, sent, is_lost, was_reliable = flying.pop(0)
                event = (
                    PacketLost(sent, sent_at, was_reliable)
                    if is_lost
                    else PacketAcked(sent, sent_at, rtt_s, was_reliable)
                )
                self.actions += self.congestion.feed(event, self.now)
            if self.congestion.can_send(size, self.now):
                self.actions += self.congestion.feed(PacketSent(size, is_reliable), self.now)
                self.lost += loss
                flying.append((self.now, size, self.lost >= 1, is_reliable))
                self.lost -= self.lost >= 1


@pytest.fixture
def path() -> Path:
    return Path()


def test_an_unused_window_does_not_grow(path: Path) -> None:
    path.run(20, loss=0, rtt_s=0.02)
    assert path.congestion.window_bytes == INITIAL


def test_a_used_window_grows(path: Path) -> None:
    path.run(5, loss=0, rtt_s=0.1, size=1_200, per_s=200)
    assert path.congestion.window_bytes > 2 * INITIAL


def test_random_loss_is_not_congestion(path: Path) -> None:
    path.run(5, loss=0, rtt_s=0.1, size=1_200, per_s=200)
    before = path.congestion.window_bytes
    path.run(10, loss=0.1, rtt_s=0.1)
    assert path.congestion.window_bytes >= 0.8 * before


def test_loss_with_a_queue_is_congestion_down_to_four_packets(path: Path) -> None:
    path.run(2, loss=0, rtt_s=0.1)
    path.run(8, loss=0.1, rtt_s=0.2)
    assert path.congestion.window_bytes == 4 * 1_200


def jittered(path: Path, seed: int, queue_s: float) -> None:
    """Up to 80 ms each way on a path that has no delay itself; of ten packets one is lost."""
    random = Random(seed)
    for number in range(1, 1_001):
        path.now += 0.02
        rtt_s = 0.001 + queue_s + 0.08 * (random.random() + random.random())
        sent_at, is_lost = path.now - rtt_s, number % 10 == 0
        path.congestion.feed(PacketSent(500), path.now)
        event = PacketLost(500, sent_at) if is_lost else PacketAcked(500, sent_at, rtt_s)
        path.actions += path.congestion.feed(event, path.now)


@pytest.mark.parametrize("seed", range(8))
def test_jitter_is_no_queue(path: Path, seed: int) -> None:
    jittered(path, seed, queue_s=0.0)
    assert path.congestion.window_bytes == INITIAL


@pytest.mark.parametrize("seed", range(8))
def test_a_queue_is_seen_through_jitter(path: Path, seed: int) -> None:
    jittered(path, seed, queue_s=0.0)
    jittered(path, seed + 100, queue_s=0.3)
    assert path.congestion.window_bytes == 4 * 1_200


def test_lasting_heavy_loss_goes_no_lower_than_the_initial_window(path: Path) -> None:
    path.run(5, loss=0, rtt_s=0.1, size=1_200, per_s=200)
    path.run(20, loss=0.3, rtt_s=0.1)
    assert path.congestion.window_bytes == INITIAL
    assert path.actions == []


@pytest.mark.parametrize("loss", [0.005, 0.02, 0.1])
def test_reliable_bytes_are_as_shy_as_tcp_above_ten_packets(path: Path, loss: float) -> None:
    """Even where nothing queues: TCP's equation is `1 / sqrt(2p/3)` packets a round trip."""
    sums, counted = 0, 0
    for _ in range(600):
        path.run(0.1, loss=loss, rtt_s=0.1, size=1_200, per_s=2_000, is_reliable=True)
        if path.now > 10:
            sums, counted = sums + path.congestion.window_bytes, counted + 1

    granted = 1 / (2 * loss / 3) ** 0.5
    assert sums / counted / 1_200 <= max(11, 1.5 * granted)


def test_a_loss_takes_from_reliable_bytes_and_not_from_datagrams(path: Path) -> None:
    path.run(5, loss=0, rtt_s=0.1, size=1_200, per_s=180)
    needed = path.congestion.in_flight_bytes
    assert needed > INITIAL
    for _ in range(10):
        path.run(0.3, loss=0, rtt_s=0.1, size=1_200, per_s=180)
        path.run(0.1, loss=0.02, rtt_s=0.1, size=1_200, per_s=1_000, is_reliable=True)

    assert path.congestion.window_bytes >= needed


def test_loss_bounds_the_window_whatever_is_in_it(path: Path) -> None:
    path.run(5, loss=0, rtt_s=0.1, size=1_200, per_s=2_000)
    assert path.congestion.window_bytes > 100 * 1_200
    path.run(6, loss=0.1, rtt_s=0.1, size=1_200, per_s=2_000)

    assert path.congestion.window_bytes <= 10 / (2 * 0.1 / 3) ** 0.5 * 1_200 * 1.02


def test_another_path_is_not_judged_by_the_one_before(path: Path) -> None:
    path.run(5, loss=0.3, rtt_s=0.02)
    path.run(5, loss=0.1, rtt_s=0.2)
    before = path.congestion.window_bytes
    assert before < INITIAL

    path.congestion.path_changed(path.now)
    path.run(0.3, loss=1, rtt_s=0.2)  # what was under way on the old path is lost
    path.congestion.path_changed(path.now)
    path.run(5, loss=0.1, rtt_s=0.08)

    assert path.congestion.window_bytes >= INITIAL
    assert path.congestion.round_trip.min_s == pytest.approx(0.08, abs=0.021)


@pytest.mark.parametrize("has_queue", [False, True])
def test_a_short_path_is_probed_fast_unless_a_queue_stands_on_it(
    path: Path, has_queue: bool
) -> None:
    path.run(2, loss=0, rtt_s=0.02)
    if has_queue:
        path.run(2, loss=0, rtt_s=0.3, size=100)
    while path.congestion.can_send(1200, path.now):
        path.congestion.feed(PacketSent(1200), path.now)
    sent: list[float] = []
    while len(sent) < 4:
        path.now += 0.001
        if path.congestion.can_send(1200, path.now):
            path.congestion.feed(PacketSent(1200), path.now)
            sent.append(path.now)

    gaps = [after - before for before, after in pairwise(sent)]
    assert max(gaps) == pytest.approx(0.1 if has_queue else 0.045, abs=0.003)


def test_packets_whose_keys_are_dropped_were_not_lost(path: Path) -> None:
    for _ in range(200):
        path.congestion.feed(PacketSent(500), path.now)
        path.congestion.feed(PacketForgotten(500), path.now)
    assert path.congestion.in_flight_bytes == 0
    # Nor does anybody owe an answer to them.
    assert path.congestion.expire(path.now + 60) == []
    path.run(15, loss=0, rtt_s=0.05)

    assert path.actions == []
    assert path.congestion.window_bytes == INITIAL


def test_a_short_burst_changes_nothing(path: Path) -> None:
    path.run(5, loss=0, rtt_s=0.1)
    path.run(0.5, loss=1, rtt_s=0.1)
    path.run(5, loss=0, rtt_s=0.1)
    assert path.congestion.window_bytes == INITIAL


def test_a_full_window_still_lets_probes_through(path: Path) -> None:
    congestion = path.congestion
    congestion.feed(PacketSent(INITIAL), 1.0)

    assert not congestion.can_send(100, 1.0)
    assert 1.0 < congestion.probe_at <= 1.4
    assert congestion.can_send(100, congestion.probe_at)


def test_a_silent_path_is_probed_steadily_and_a_path_that_answers_is_not(path: Path) -> None:
    path.run(5, loss=0, rtt_s=0.3)
    congestion, full_at = path.congestion, path.now
    congestion.feed(PacketSent(congestion.window_bytes), full_at)
    congestion.feed(PacketAcked(1, full_at, None), full_at + 0.3)
    assert congestion.probe_at > full_at + 2 * 0.3

    sent_at = [full_at]
    while sent_at[-1] < full_at + 20:
        sent_at.append(congestion.probe_at)
        congestion.feed(PacketSent(1_200), sent_at[-1])

    gaps = [after - before for before, after in pairwise(sent_at[1:])]
    assert gaps[:50] == [pytest.approx(0.1)] * 50
    assert gaps[-1] == pytest.approx(0.4)


@pytest.mark.parametrize(("rtt_s", "gap_s"), [(0.001, 0.04), (0.03, 0.055), (0.3, 0.1)])
def test_a_short_path_is_probed_as_fast_as_it_could_answer_at_first(
    path: Path, rtt_s: float, gap_s: float
) -> None:
    path.run(5, loss=0, rtt_s=rtt_s)
    congestion, sent_at = path.congestion, [path.now]
    congestion.feed(PacketSent(congestion.window_bytes), path.now)
    for _ in range(20):
        sent_at.append(congestion.probe_at)
        congestion.feed(PacketSent(1_200), sent_at[-1])

    gaps = [after - before for before, after in pairwise(sent_at)]
    assert gaps[1:7] == [pytest.approx(gap_s)] * 6
    assert gaps[7:] == [pytest.approx(0.1)] * 13


def test_a_late_confirmation_does_not_put_off_the_probe(path: Path) -> None:
    """One from before a blackout raises the smoothed round trip, and says nothing of the path."""
    path.run(5, loss=0, rtt_s=0.05)
    congestion, dark_at = path.congestion, path.now
    congestion.feed(PacketSent(100), dark_at)
    congestion.feed(PacketSent(congestion.window_bytes), dark_at + 0.02)
    congestion.feed(PacketAcked(100, dark_at, 1.1), dark_at + 1.1)

    assert congestion.probe_at < dark_at + 1.1


def test_ten_seconds_of_heavy_loss_break_the_circuit(path: Path) -> None:
    path.run(2, loss=0, rtt_s=0.4)
    path.run(9, loss=0.6, rtt_s=0.4)
    assert path.actions == []
    path.run(4, loss=0.6, rtt_s=0.4)

    assert path.actions == [CircuitBroken(TripReason.HEAVY_LOSS)]
    assert not path.congestion.can_send(100, path.now + 10)


@pytest.mark.parametrize("loss", [0.1, 0.2, 0.45])
def test_a_token_stream_on_a_bad_radio_link_does_not_break_it(path: Path, loss: float) -> None:
    path.run(60, loss=loss, rtt_s=0.3)
    assert path.actions == []


def test_silence_breaks_the_circuit_but_a_blackout_does_not(path: Path) -> None:
    path.congestion.feed(PacketSent(500), 0.0)
    for tenth in range(300):
        assert path.congestion.expire(tenth / 10) == []

    assert path.congestion.expire(30.0) == [CircuitBroken(TripReason.SILENCE)]
    assert path.congestion.is_broken
    assert path.congestion.expire(31.0) == []


def test_a_connection_without_anything_unanswered_is_not_silent(path: Path) -> None:
    path.congestion.feed(PacketSent(500), 0.0)
    path.congestion.feed(PacketAcked(500, 0.0, 0.1), 0.1)

    assert path.congestion.expire(1000.0) == []


def test_a_byte_rate_frees_up_as_time_goes_by() -> None:
    rate = ByteRate(1_000, 500)
    assert rate.free_at < 0
    rate.spend(400, 10.0)
    assert rate.free_at <= 10.0
    rate.spend(400, 10.0)
    assert rate.free_at == pytest.approx(10.3)
    rate.spend(100, 20.0)
    assert rate.free_at <= 20.0


def test_the_round_trip_follows_rfc_6298() -> None:
    round_trip = RoundTrip(0.3)
    assert round_trip.min_s == 0.3
    assert round_trip.timeout_s(0) == pytest.approx(0.9)
    round_trip.add(0.1, 0.0)
    assert (round_trip.smoothed_s, round_trip.variation_s) == (0.1, 0.05)
    round_trip.add(0.2, 1.0)
    assert round_trip.smoothed_s == pytest.approx(0.1125)
    assert round_trip.min_s == 0.1
    for second in range(10, 40):
        round_trip.add(0.2, float(second))
    assert round_trip.min_s == 0.2


def test_jitter_is_the_difference_of_two_samples_in_a_row() -> None:
    round_trip = RoundTrip(0.3)
    round_trip.add(0.1, 0.0)
    assert round_trip.jitter_s == 0
    round_trip.add(0.18, 0.1)
    assert round_trip.jitter_s == pytest.approx(0.08)
    for number in range(100):
        round_trip.add(0.1 + 0.08 * (number % 2), 0.2 + number / 10)
    assert round_trip.jitter_s == pytest.approx(0.08)
    for number in range(100):
        round_trip.add(0.18 + 0.002 * number, 11.0 + number / 10)
    assert round_trip.jitter_s == pytest.approx(0.002, rel=0.1)


def test_loss_is_counted_over_a_window() -> None:
    meter = LossMeter(5.0, 10)
    meter.add(9, 9, 0.0)
    assert meter.loss is None
    meter.add(100, 80, 1.0)
    assert meter.loss == pytest.approx(0.2)
    for second in range(2, 10):
        meter.add(100 * second, 100 * second - 20, float(second))
    assert meter.loss == 0.0


def test_the_worse_the_path_the_more_is_sent() -> None:
    clean, lossy, bad = RepeatPolicy(), RepeatPolicy(), RepeatPolicy()
    for number in range(1, 500):
        clean.acked(number, number, number / 50)
        lossy.acked(number, number - number // 20, number / 50)
        bad.acked(number, number - number // 5, number / 50)
    round_trip = RoundTrip(0.3)
    for policy in (clean, lossy, bad):
        policy.new_sent(10.0, 0.03, size_bytes=20, fresh_bytes=18, is_last=False)

    assert clean.is_clean
    assert clean.repeat_at() is None
    assert lossy.repeat_at() == bad.repeat_at() == pytest.approx(10.045)
    lossy.repeated(10.045, 30)
    bad.repeated(10.045, 30)
    assert lossy.repeat_at() == pytest.approx(10.09)
    assert bad.repeat_at() == pytest.approx(10.06)
    assert bad.frame_s(round_trip, 0.02, 0.05) == 0.02
    assert lossy.frame_s(round_trip, 0.02, 0.05) == pytest.approx(0.0375)
    spans = [lossy.span_s(500, 0.3, is_silent=False, is_repeat=False) for _ in range(4)]
    assert spans.count(None) == 2
    assert lossy.span_s(500, 0.3, is_silent=False, is_repeat=True) is not None
    assert lossy.span_s(500, 0.3, is_silent=True, is_repeat=True) is None


@pytest.mark.parametrize("size_bytes", [40, 120, 400])
def test_repeats_cost_no_more_than_the_events_they_replace(size_bytes: int) -> None:
    policy, now, spent, num_texts = RepeatPolicy(), 10.0, 0, 100
    for _ in range(num_texts):
        policy.new_sent(now, 0.02, size_bytes, fresh_bytes=18, is_last=False)
        spent += size_bytes + 60
        while (at := policy.repeat_at()) is not None:
            policy.repeated(at, size_bytes)
            spent += size_bytes + 60
        now += 0.5

    assert spent <= max(304, size_bytes + 60) * num_texts
    policy.new_sent(now, 0.02, size_bytes, fresh_bytes=0, is_last=True)
    last = []
    while (at := policy.repeat_at()) is not None:
        last.append(at)
        policy.repeated(at, size_bytes)
    assert len(last) == 4
