"""Replayed answers count what drafting them would have."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.recipes.replaying import Replayed, replay, replay_hits
from headstart.stages.copy_drafter import CopyDrafter
from headstart.stages.drafting import Draft, Verdict


class Always:
    """Says the same whatever has been."""

    def __init__(self, said: Sequence[int]) -> None:
        self._said = said
        self._at = 1

    def observe(self, verdict: Verdict) -> None:
        self._at += len(verdict.tokens)

    def draft(self, max_tokens: int) -> Draft | None:
        return Draft(self._said[self._at : self._at + max_tokens])


def test_a_right_draft_gives_one_token_more_than_it_has() -> None:
    answer = list(range(11))

    found = replay_hits(answer, answer, 4)

    assert found == Replayed(tokens=10, steps=2, drafted=8, accepted=8)
    assert found.accepted_length == 5.0
    assert replay_hits([-1] * 11, answer, 4).accepted_length == 1.0
    assert replay_hits([], answer, 0) == Replayed(tokens=10, steps=10)
    assert Replayed().accepted_length is None


def test_copying_finds_what_the_prompt_has() -> None:
    prompt = [5, 6, 7, 8, 9, 10, 11, 12]
    answer = [1, 5, 6, 7, 8, 9, 10, 11, 12, 2]

    found = replay(CopyDrafter([*prompt, *answer[:1]]), answer, 5)

    assert found.tokens == 9
    assert found.steps == 4  # 5 and 6 by itself, then 7 to 12, then 2
    assert found.accepted == 5


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 6))
def test_both_ways_of_replaying_agree(hits: list[bool], most: int) -> None:
    answer = [1] * len(hits)
    said = [1 if hit else 0 for hit in hits]

    one, other = replay(Always(said), answer, most), replay_hits(said, answer, most)

    assert one == other
    assert one.tokens == one.accepted + one.steps or one.tokens < one.accepted + one.steps
    assert one + Replayed() == one


@pytest.mark.parametrize("length", [0, 1])
def test_an_answer_of_one_token_has_no_steps(length: int) -> None:
    assert replay_hits([1] * length, [1] * length, 3) == Replayed()
