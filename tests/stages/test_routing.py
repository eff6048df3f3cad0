"""Which replica is asked."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.routing import Candidate, is_worth_leaving, least_busy

few = st.integers(0, 3)
candidates = st.lists(st.builds(Candidate, num_live=few, num_waiting=few), min_size=1, max_size=6)


@given(candidates, st.integers(0, 1000))
def test_nobody_waits_where_another_would_not(replicas: list[Candidate], turn: int) -> None:
    chosen = replicas[least_busy(replicas, turn)]

    assert all(
        chosen.num_waiting + chosen.num_live <= other.num_waiting + other.num_live
        for other in replicas
    )


@given(candidates, st.integers(0, 1000))
def test_ties_go_round(replicas: list[Candidate], turn: int) -> None:
    """In as many turns as there are replicas, each of the least busy is asked, none but those."""
    todo = [replica.num_waiting + replica.num_live for replica in replicas]
    tied = [index for index, work in enumerate(todo) if work == min(todo)]
    turns = range(turn, turn + len(replicas))

    asked = Counter(least_busy(replicas, later) for later in turns)
    assert sorted(asked) == tied


@given(candidates, st.builds(Candidate, num_live=st.integers(0, 99), num_waiting=few))
def test_a_session_stays_where_nobody_waits(others: list[Candidate], current: Candidate) -> None:
    leaves = is_worth_leaving(current, others)

    assert not leaves or current.num_waiting > 0
    assert not leaves or any(current.num_live > other.num_live for other in others)


def test_a_session_leaves_an_overloaded_replica() -> None:
    assert is_worth_leaving(Candidate(8, 3), [Candidate(9, 2), Candidate(1, 0)])
    assert not is_worth_leaving(Candidate(8, 3), [Candidate(6, 0)])
    assert not is_worth_leaving(Candidate(99, 99), [])
