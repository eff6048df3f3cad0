"""When drafts are looked for and tried while none pays: alone, and on busy simulated machines."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.stages.probing import Probing
from headstart.stages.step_cost import StepCost
from tests.stages.simulated_decoding import Curve, Machine, Row, flat, full, laptop, two_cores

FREE = [math.inf]


def probing_of(curve: Curve, rows: int = 1) -> Probing:
    cost = StepCost()
    for drafted in range(5):
        cost.observe(rows, drafted, curve(rows, drafted))
    return Probing(cost)


def probed_at(
    probing: Probing, num_steps: int, curve: Curve, *, is_busy: bool = False
) -> list[int]:
    """Steps at which something is tried that is wrong."""
    found, drafted = [], 0
    for step in range(num_steps):
        if is_busy:
            probing.began()
        probing.step(1, drafted, 1, curve(1, drafted))
        drafted = 0
        if probing.is_due(FREE):
            drafted = probing.num_rows(1, 1)
            found.append(step)
    return found


def test_waits_are_doubled_until_drafting_pays() -> None:
    probing = probing_of(flat)

    assert probed_at(probing, 200, flat) == [7, 23, 55, 119, 183]
    probing.paid()
    assert probed_at(probing, 30, flat) == [7, 23]


@pytest.mark.parametrize(("curve", "wait"), [(flat, 8), (laptop, 8), (two_cores, 8), (full, 200)])
def test_arrivals_hasten_probes_as_far_as_these_cost_little(curve: Curve, wait: int) -> None:
    found = probed_at(probing_of(curve), 1000, curve, is_busy=True)

    assert max(later - step for step, later in pairwise(found)) == wait


def test_probe_that_was_right_costs_nothing() -> None:
    probing = probing_of(full)
    assert probed_at(probing, 8, full) == [7]

    probing.step(1, 1, 2, full(1, 1))  # twice the time, and two tokens

    assert probed_at(probing, 8, full, is_busy=True) == [7]


def test_what_no_request_can_afford_is_put_off_until_it_can() -> None:
    probing = probing_of(laptop)
    for _ in range(100):
        probing.step(1, 0, 1, laptop(1, 0))
        assert not probing.is_due([0.0])

    assert probing.is_due([0.1])


def test_looking_rests_when_it_has_had_its_share() -> None:
    probing = probing_of(laptop)
    probing.looked(0.001)

    steps = 0
    while probing.is_resting:
        probing.step(1, 0, 1, 0.01)
        steps += 1

    assert steps == 10


def test_more_than_one_request_is_tried_where_that_hardly_costs_more() -> None:
    assert probing_of(flat, 4).num_rows(4, 4) == 4
    assert probing_of(full, 4).num_rows(4, 4) == 1


class BusyServer:
    """So many requests at a time, another taking the place of each that ends."""

    def __init__(self, curve: Curve, rows: int, limit: int, seed: int, draft_s: float) -> None:
        self.machine = Machine(curve, [], seed, draft_s=draft_s)
        self.chance = 0.0
        self._rows = rows
        self._limit = limit

    def speed_over(self, num_steps: int) -> float:
        """Tokens a second relative to the same steps without drafts."""
        machine = self.machine
        seconds, tokens, plain_s = machine.seconds, machine.tokens, machine.plain_s
        plain_tokens = 0
        for _ in range(num_steps):
            while len(machine.rows) < self._rows:
                limit = machine.random.randint(self._limit // 2, self._limit * 3 // 2)
                machine.begin(Row(self.chance, limit=limit))
            plain_tokens += len(machine.rows)
            machine.step()
        speed = (machine.tokens - tokens) / (machine.seconds - seconds)
        return speed / (plain_tokens / (machine.plain_s - plain_s))


CURVES = st.sampled_from([flat, laptop, full, two_cores])


@settings(max_examples=20)
@given(
    CURVES,
    st.floats(0.0, 0.1),
    st.sampled_from([1, 4, 8]),
    st.sampled_from([12, 24, 48]),
    st.sampled_from([0.0, 0.0005]),
    st.integers(0, 1000),
)
def test_short_answers_that_nothing_is_right_for_cost_no_more_when_they_keep_coming(
    curve: Curve, chance: float, rows: int, limit: int, draft_s: float, seed: int
) -> None:
    """On two cores and full machines trying once took 2 to 3 percent for ever."""
    server = BusyServer(curve, rows, limit, seed, draft_s)
    server.chance = chance
    server.speed_over(300)

    assert server.speed_over(1000) > (0.98 if draft_s else 0.985)


@settings(max_examples=20)
@given(
    st.sampled_from([flat, laptop, two_cores]),
    st.sampled_from([1, 4]),
    st.sampled_from([24, 48]),
    st.integers(0, 1000),
)
def test_what_has_become_right_is_found_on_a_busy_server(
    curve: Curve, rows: int, limit: int, seed: int
) -> None:
    server = BusyServer(curve, rows, limit, seed, 0.0)
    server.speed_over(600)
    server.chance = 0.95

    server.speed_over(300)

    assert server.speed_over(300) > 1.5
