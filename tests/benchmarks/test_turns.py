"""Who serves what in a turn: drift that is steady weighs on all alike."""

import pytest

from headstart.benchmarks.overhead import FULL, QUICK, Plan
from headstart.benchmarks.turns import HALVES, num_prompts, shifts


@pytest.mark.parametrize("num_servers", [2, 3])
@pytest.mark.parametrize("turn", [0, 1])
def test_steady_drift_cancels_within_a_turn(num_servers: int, turn: int) -> None:
    batches = [(shift.server, half) for shift in shifts(num_servers, turn) for half in shift.halves]
    places = {
        server: [place for place, (who, _) in enumerate(batches) if who == server]
        for server in range(num_servers)
    }
    assert len({sum(own) for own in places.values()}) == 1  # the same mean place in time
    assert [len(own) for own in places.values()] == [HALVES] * num_servers


@pytest.mark.parametrize("num_servers", [2, 3])
@pytest.mark.parametrize("turn", [0, 1])
def test_everyone_gets_both_batches_in_order(num_servers: int, turn: int) -> None:
    for server in range(num_servers):
        own = [
            half
            for shift in shifts(num_servers, turn)
            if shift.server == server
            for half in shift.halves
        ]
        assert own == [0, 1]


@pytest.mark.parametrize("num_servers", [2, 3])
def test_who_begins_alternates(num_servers: int) -> None:
    first = [next(iter(shifts(num_servers, turn))).server for turn in range(4)]
    assert first == [0, num_servers - 1] * 2


def test_who_is_in_the_middle_stays_awake() -> None:
    assert len(list(shifts(2, 0))) == 3
    assert len(list(shifts(3, 0))) == 5


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_a_plan_has_pairs_enough_for_an_interval(plan: Plan) -> None:
    for turns in plan.serving.turns.values():
        assert plan.serving.num_rounds * turns >= 8
    sizes = {1: 2, 4: 8, 16: 32}
    per_round = sum(sizes[size] * turns for size, turns in plan.serving.turns.items())
    assert num_prompts(plan.serving) == plan.serving.num_rounds * per_round
