"""The offset of another process's clock, by ping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.stage_clock import ClockOffset

ROUNDING_S = 1e-8
"""Of sums and differences of stamps up to a million seconds."""

delays = st.floats(0, 10)
pings = st.tuples(delays, delays, delays)
"""Seconds on the way there, at the remote side, and on the way back."""


def ping(
    clock: ClockOffset, offset: float, sent: float, there: float, away: float, back: float
) -> None:
    received = sent + there
    clock.add(sent, received + offset, received + away + offset, received + away + back)


@given(st.floats(-1e6, 1e6), st.lists(pings, min_size=1))
def test_the_true_offset_is_within_the_uncertainty(
    offset: float, times: list[tuple[float, float, float]]
) -> None:
    clock = ClockOffset()
    for number, (there, away, back) in enumerate(times):
        ping(clock, offset, 100.0 * number, there, away, back)

    assert clock.is_known
    best = min(there + back for there, _, back in times[-64:])
    assert clock.uncertainty_s == pytest.approx(best / 2, abs=ROUNDING_S)
    assert abs(clock.offset_s - offset) <= clock.uncertainty_s + ROUNDING_S
    assert abs(clock.to_local(50.0 + offset) - 50.0) <= clock.uncertainty_s + ROUNDING_S


def test_nothing_is_known_before_the_first_ping() -> None:
    clock = ClockOffset()

    assert not clock.is_known
    assert (clock.offset_s, clock.uncertainty_s) == (0.0, float("inf"))
    assert clock.to_local(3.0) == 3.0


def test_the_shortest_round_trip_is_believed_until_the_window_has_passed() -> None:
    clock = ClockOffset(window=3)
    ping(clock, 7.0, 0.0, there=0.25, away=1.0, back=0.25)
    for sent in (1.0, 2.0):
        ping(clock, 9.0, sent, there=0.5, away=0.0, back=0.5)
    assert (clock.offset_s, clock.uncertainty_s) == (7.0, 0.25)

    ping(clock, 9.0, 3.0, there=0.5, away=0.0, back=0.5)
    assert (clock.offset_s, clock.uncertainty_s) == (9.0, 0.5)


def test_a_round_trip_that_rounds_below_zero_counts_as_none() -> None:
    clock = ClockOffset()
    clock.add(sent=1.0, remote_received=5.0, remote_sent=5.5, received=1.25)

    assert clock.uncertainty_s == 0.0
