"""Which rung is open, and when another is tried."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.carrier_ladder import (
    Advanced,
    Available,
    CarrierLadder,
    Close,
    Failed,
    GiveUp,
    LadderAction,
    LadderEvent,
    Open,
    Opened,
    Quiet,
    Rung,
    Watch,
)

DATAGRAMS, SSE, POLL = Rung


def test_without_datagrams_the_event_stream_goes_on() -> None:
    ladder = CarrierLadder(has_datagrams=False)

    assert ladder.start() == []
    assert ladder.feed(Advanced(SSE, 50), 1.0) == []
    assert ladder.deadline() is None


def test_datagrams_that_deliver_as_much_take_over_at_once() -> None:
    ladder = CarrierLadder(has_datagrams=True)

    assert ladder.start() == [Open(DATAGRAMS, 0)]
    ladder.feed(Advanced(SSE, 50), 1.0)
    assert ladder.feed(Advanced(DATAGRAMS, 40), 1.05) == []
    assert ladder.feed(Advanced(DATAGRAMS, 50), 1.1) == [Close(SSE)]
    assert ladder.rungs == {DATAGRAMS}
    assert ladder.deadline() is None


def test_datagrams_that_bring_nothing_in_300_ms_have_lost() -> None:
    ladder = CarrierLadder(has_datagrams=True)
    ladder.start()
    assert ladder.deadline() is None  # a slow engine is nobody's fault

    ladder.feed(Advanced(SSE, 50), 1.0)
    assert ladder.deadline() == pytest.approx(1.3)

    assert ladder.expire(1.3) == [Close(DATAGRAMS), Watch(DATAGRAMS)]
    assert ladder.feed(Failed(SSE), 2.0) == [Open(SSE, 50), Open(DATAGRAMS, 50)]


def test_datagrams_that_lose_the_race_by_a_hair_go_on_unhurried() -> None:
    ladder = CarrierLadder(has_datagrams=True)
    ladder.start()
    ladder.feed(Advanced(SSE, 50), 0.05)
    ladder.feed(Opened(DATAGRAMS), 0.31)

    assert ladder.expire(0.351) == []
    ladder.feed(Advanced(SSE, 90), 0.4)
    assert ladder.deadline() is None
    assert ladder.feed(Advanced(DATAGRAMS, 95), 0.5) == [Close(SSE)]


def test_a_session_that_is_late_again_and_again_is_left_alone() -> None:
    ladder = CarrierLadder(has_datagrams=True)
    actions, now = ladder.start(), 0.0
    for cursor in range(1, 10):
        ladder.feed(Advanced(SSE, cursor), now)
        actions += ladder.expire(now + 0.5)
        actions += ladder.feed(Failed(SSE), now + 1.0)
        now += 5.0

    assert actions.count(Open(DATAGRAMS, 1)) == actions.count(Open(DATAGRAMS, 2)) == 1
    assert actions.count(Watch(DATAGRAMS)) == 2
    assert Open(DATAGRAMS, 3) not in actions


def test_datagrams_that_fail_beside_an_event_stream_come_back() -> None:
    ladder = CarrierLadder(has_datagrams=True)
    ladder.start()
    ladder.feed(Advanced(DATAGRAMS, 50), 1.0)
    ladder.feed(Quiet(DATAGRAMS), 4.0)
    ladder.feed(Advanced(SSE, 60), 4.1)

    assert ladder.feed(Failed(DATAGRAMS), 5.0) == [Watch(DATAGRAMS)]
    assert ladder.feed(Available(DATAGRAMS), 6.0) == [Open(DATAGRAMS, 60)]
    assert ladder.feed(Advanced(DATAGRAMS, 70), 7.0) == [Close(SSE)]


def test_an_answer_climbs_to_datagrams_whose_session_was_late_for_the_race() -> None:
    ladder = CarrierLadder(has_datagrams=True)
    ladder.start()
    ladder.feed(Advanced(SSE, 50), 1.0)
    assert ladder.expire(1.3) == [Close(DATAGRAMS), Watch(DATAGRAMS)]
    ladder.feed(Advanced(SSE, 900), 2.0)

    assert ladder.feed(Available(DATAGRAMS), 2.5) == [Open(DATAGRAMS, 900)]
    # They have all of the answer to bring and a slow path to do so: nothing is lost by patience.
    ladder.feed(Advanced(SSE, 950), 2.6)
    assert ladder.deadline() is None
    assert ladder.feed(Advanced(DATAGRAMS, 400), 4.0) == []
    ladder.feed(Advanced(SSE, 990), 4.1)
    assert ladder.feed(Advanced(DATAGRAMS, 960), 4.5) == [Close(SSE)]
    assert ladder.rungs == {DATAGRAMS}


def test_a_climb_that_fails_leaves_the_event_stream_as_it_is() -> None:
    ladder = CarrierLadder(has_datagrams=True)
    ladder.start()
    ladder.feed(Advanced(SSE, 50), 1.0)
    ladder.expire(1.3)
    ladder.feed(Available(DATAGRAMS), 2.5)

    assert ladder.feed(Failed(DATAGRAMS), 3.0) == [Watch(DATAGRAMS)]
    assert ladder.rungs == {SSE}
    assert ladder.deadline() is None
    assert ladder.feed(Available(DATAGRAMS), 3.1) == [Open(DATAGRAMS, 50)]
    assert ladder.feed(Failed(DATAGRAMS), 4.0) == []


def test_nobody_climbs_after_the_end_or_twice() -> None:
    ladder = CarrierLadder(has_datagrams=True)
    ladder.start()
    assert ladder.feed(Available(DATAGRAMS), 0.5) == []
    for _ in range(3):
        ladder.feed(Failed(DATAGRAMS), 1.0)
        ladder.feed(Available(DATAGRAMS), 1.0)
    assert ladder.feed(Available(DATAGRAMS), 1.0) == []
    ladder.feed(Failed(SSE), 2.0)
    ladder.expire(100.0)
    assert ladder.feed(Available(DATAGRAMS), 101.0) == []


def test_a_lost_event_stream_is_asked_for_again_from_its_cursor() -> None:
    ladder = CarrierLadder(has_datagrams=False)
    ladder.feed(Advanced(SSE, 50), 1.0)

    assert ladder.feed(Failed(SSE), 2.0) == [Open(SSE, 50)]
    waits, now = [], 2.0
    for _ in range(8):
        assert ladder.feed(Failed(SSE), now) == []
        due = ladder.deadline()
        assert due is not None
        waits.append(due - now)
        now = due
        assert ladder.expire(now) == [Open(SSE, 50)]

    assert waits[:3] == [pytest.approx(wait) for wait in (0.1, 0.2, 0.4)]
    assert waits[-1] == pytest.approx(2.0)


def test_a_delivery_ends_the_waiting() -> None:
    ladder = CarrierLadder(has_datagrams=False)
    for _ in range(3):
        ladder.feed(Failed(SSE), 2.0)
        ladder.expire(2.5)
    ladder.feed(Opened(SSE), 2.6)
    ladder.feed(Advanced(SSE, 80), 2.6)

    assert ladder.feed(Failed(SSE), 3.0) == [Open(SSE, 80)]


def test_nobody_answers_for_a_minute() -> None:
    ladder = CarrierLadder(has_datagrams=False)
    now, actions = 5.0, ladder.feed(Failed(SSE), 5.0)
    while GiveUp() not in actions:
        actions = ladder.feed(Failed(SSE), now)
        due = ladder.deadline()
        assert due is not None
        now = due
        actions += ladder.expire(now)

    assert now == pytest.approx(65.0)
    assert ladder.deadline() is None
    assert ladder.feed(Failed(SSE), now) == []


def test_an_answer_that_is_slow_is_not_given_up() -> None:
    ladder = CarrierLadder(has_datagrams=False)
    ladder.feed(Failed(SSE), 5.0)
    ladder.feed(Opened(SSE), 5.1)

    assert ladder.deadline() is None


def test_beside_a_quiet_datagram_path_an_event_stream_is_opened_and_whoever_is_first_counts() -> (
    None
):
    ladder = CarrierLadder(has_datagrams=True)
    ladder.start()
    ladder.feed(Advanced(DATAGRAMS, 50), 1.0)

    assert ladder.feed(Quiet(DATAGRAMS), 4.0) == [Open(SSE, 50)]
    assert ladder.feed(Quiet(DATAGRAMS), 7.0) == []
    ladder.feed(Advanced(SSE, 90), 7.5)
    assert ladder.deadline() is None
    # They are listened to, however long it takes, and go on from where the reader is then.
    assert ladder.feed(Advanced(DATAGRAMS, 95), 60.0) == [Close(SSE)]


def test_an_event_stream_beside_a_quiet_datagram_path_is_tried_again() -> None:
    ladder = CarrierLadder(has_datagrams=True)
    ladder.start()
    ladder.feed(Advanced(DATAGRAMS, 50), 1.0)
    ladder.feed(Quiet(DATAGRAMS), 4.0)

    assert ladder.feed(Failed(SSE), 4.1) == [Open(SSE, 50)]
    assert ladder.feed(Failed(SSE), 4.2) == []
    assert ladder.expire(4.3) == [Open(SSE, 50)]
    assert ladder.expire(70.0) == [Close(DATAGRAMS), Close(SSE), GiveUp()]


def test_a_failed_session_leaves_the_event_stream_at_once() -> None:
    ladder = CarrierLadder(has_datagrams=True)
    ladder.start()
    ladder.feed(Advanced(DATAGRAMS, 50), 1.0)

    assert ladder.feed(Failed(DATAGRAMS), 2.0) == [Open(SSE, 50), Open(DATAGRAMS, 50)]


def test_an_event_stream_that_somebody_holds_back_is_polled_instead() -> None:
    ladder = CarrierLadder(has_datagrams=False)
    ladder.feed(Advanced(SSE, 50), 1.0)

    assert ladder.feed(Quiet(SSE), 20.0) == [Close(SSE), Open(SSE, 50)]
    assert ladder.feed(Quiet(SSE), 40.0) == [Close(SSE)]
    assert ladder.expire(41.0) == [Open(POLL, 50)]
    ladder.feed(Advanced(POLL, 60), 42.0)
    assert ladder.feed(Failed(POLL), 43.0) == [Open(POLL, 60)]


def test_a_dead_connection_is_replaced_by_another_event_stream() -> None:
    ladder = CarrierLadder(has_datagrams=False)
    for quiet_at in (20.0, 60.0):
        ladder.feed(Advanced(SSE, 50), quiet_at - 20)
        assert ladder.feed(Quiet(SSE), quiet_at) == [Close(SSE), Open(SSE, 50)]


EVENTS = st.builds(Advanced, st.sampled_from(Rung), st.integers(0, 99)) | st.builds(
    lambda kind, rung: kind(rung),
    st.sampled_from([Opened, Quiet, Failed, Available]),
    st.sampled_from(Rung),
)


@given(st.booleans(), st.lists(st.tuples(EVENTS, st.floats(0, 3)), max_size=60))
def test_some_rung_is_open_or_due_and_opening_goes_on_from_the_cursor(
    has_datagrams: bool, events: list[tuple[LadderEvent, float]]
) -> None:
    ladder, now = CarrierLadder(has_datagrams), 0.0
    is_open = {SSE}

    def act(actions: list[LadderAction]) -> bool:
        for action in actions:
            if isinstance(action, Open):
                assert action.rung not in is_open
                assert action.after == ladder.cursor
                is_open.add(action.rung)
            elif isinstance(action, Close):
                is_open.remove(action.rung)
        return GiveUp() in actions

    act(ladder.start())
    for event, gap_s in events:
        now += gap_s
        if act(ladder.expire(now)):
            return
        if isinstance(event, Failed):
            is_open.discard(event.rung)
        if act(ladder.feed(event, now)):
            return
        assert ladder.rungs == is_open
        assert is_open or ladder.deadline() is not None


def test_datagrams_need_not_overtake_a_fast_event_stream() -> None:
    ladder = CarrierLadder(True)
    ladder.start()
    ladder.feed(Advanced(Rung.SSE, 100), 0.0)
    assert ladder.feed(Advanced(Rung.DATAGRAMS, 60), 0.05) == []
    ladder.feed(Advanced(Rung.SSE, 140), 0.06)

    assert ladder.feed(Advanced(Rung.DATAGRAMS, 110), 0.08) == [Close(Rung.SSE)]
    assert ladder.cursor == 140


def test_datagrams_that_fail_again_and_again_are_left_alone() -> None:
    ladder = CarrierLadder(True)
    ladder.start()
    num_opened, now = 1, 0.0
    for cursor in range(1, 10):
        ladder.feed(Advanced(Rung.SSE, cursor), now)
        ladder.feed(Advanced(Rung.DATAGRAMS, cursor), now)
        actions = ladder.feed(Failed(Rung.DATAGRAMS), now)
        num_opened += Open(Rung.DATAGRAMS, cursor) in actions
        now += 10.0

    assert num_opened == 3
    assert ladder.rungs == {Rung.SSE}


def test_failures_are_forgotten_once_datagrams_have_delivered_for_a_while() -> None:
    ladder = CarrierLadder(True)
    ladder.start()
    now = 0.0
    for _ in range(10):
        for _ in range(7):
            ladder.feed(Advanced(Rung.DATAGRAMS, ladder.cursor + 1), now)
            now += 1.0
        actions = ladder.feed(Failed(Rung.DATAGRAMS), now)
        assert Open(Rung.DATAGRAMS, ladder.cursor) in actions


def test_a_silence_is_no_time_of_delivering() -> None:
    ladder = CarrierLadder(True)
    ladder.start()
    actions: list[LadderAction] = []
    for start in (0.0, 10.0, 20.0):
        ladder.feed(Advanced(Rung.DATAGRAMS, 1), start)
        ladder.feed(Quiet(Rung.DATAGRAMS), start + 3.0)
        ladder.feed(Advanced(Rung.SSE, 1), start + 6.0)
        ladder.feed(Advanced(Rung.DATAGRAMS, 1), start + 6.1)
        actions = ladder.feed(Failed(Rung.DATAGRAMS), start + 6.2)

    assert actions == [Open(Rung.SSE, 1)]
