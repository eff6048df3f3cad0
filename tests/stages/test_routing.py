"""Which replica is asked."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.routing import (
    Candidate,
    Routed,
    Wanted,
    is_worth_leaving,
    least_busy,
    pool_for,
)

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


IDLE, HOT = Candidate(0, 0), Candidate(8, 8)
many = st.lists(st.builds(Candidate, num_live=st.integers(0, 20), num_waiting=few), max_size=3)


@given(
    st.builds(
        Wanted,
        language=st.sampled_from([None, "de", "de-AT", "DE", "nl", "fr", "x-klingon"]),
        is_drafted=st.booleans(),
    ),
    st.dictionaries(st.sampled_from(["de", "nl"]), many),
    many,
)
def test_pool_of_a_language_is_taken_while_it_is_there_and_not_hot(
    wanted: Wanted, pools: dict[str, list[Candidate]], common: list[Candidate]
) -> None:
    pool, why = pool_for(wanted, pools, common)

    assert (pool is not None) == (why is Routed.LANGUAGE)
    if pool is not None:
        assert wanted.is_drafted
        assert wanted.language is not None
        assert wanted.language.lower().startswith(pool)
        assert pools[pool]
        assert not common or any(
            not is_worth_leaving(candidate, common) for candidate in pools[pool]
        )
    elif wanted.is_drafted and (wanted.language or "").lower()[:2] in pools:
        assert why in (Routed.HOT, Routed.DOWN)
        assert why is Routed.DOWN or common  # nobody is left for where nobody is


@pytest.mark.parametrize(
    ("wanted", "german", "why"),
    [
        (Wanted("de", True), [IDLE], Routed.LANGUAGE),
        (Wanted("de-CH", True), [HOT, IDLE], Routed.LANGUAGE),
        (Wanted("de", True), [HOT], Routed.HOT),
        (Wanted("de", True), [], Routed.DOWN),
        (Wanted("fr", True), [IDLE], Routed.NO_POOL),
        (Wanted(None, True), [IDLE], Routed.UNKNOWN),
        (Wanted("de", False), [IDLE], Routed.UNDRAFTED),
    ],
)
def test_why_a_pool_is_taken_or_not(wanted: Wanted, german: list[Candidate], why: Routed) -> None:
    assert pool_for(wanted, {"de": german}, [IDLE])[1] is why


def test_hot_pool_is_stayed_with_where_all_others_are_lost() -> None:
    assert pool_for(Wanted("de", True), {"de": [HOT]}, []) == ("de", Routed.LANGUAGE)
