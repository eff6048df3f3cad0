"""Each proposer alone: what it is told, and what it then offers."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.copy_drafter import CopyDrafter
from headstart.stages.drafting import Draft, Verdict
from headstart.stages.errors import SetupError
from headstart.stages.index_budget import IndexBudget
from headstart.stages.jacobi import JacobiBlock
from headstart.stages.ngram_table import NgramTable, TableDrafter, build

SMALL: Any = {"vocabulary": 10, "tokenizer": "ab12"}
TOKENS = st.lists(st.integers(0, 9), max_size=40)


def tokens_of(draft: Draft | None) -> list[int]:
    assert draft is not None
    return list(draft.tokens)


def test_copying_goes_on_where_the_text_was_before() -> None:
    drafter = CopyDrafter([1, 2, 3, 4, 5, 6, 0, 2])
    assert drafter.draft(3) is None  # one token is no match

    drafter.observe(Verdict([3]))

    assert tokens_of(drafter.draft(3)) == [4, 5, 6]


def test_longer_match_has_a_higher_grade() -> None:
    text = list(range(30))
    grades = []
    for length in (2, 3, 5, 8, 12, 20):
        draft = CopyDrafter([*text, 99, *text[:length]]).draft(1)
        assert draft is not None
        grades.append(draft.grade)

    assert grades == sorted(grades)
    assert grades[0] < grades[-1]


@given(TOKENS, st.integers(0, 20))
def test_copying_offers_no_more_than_asked(tokens: list[int], most: int) -> None:
    draft = CopyDrafter(tokens).draft(most)

    assert draft is None or len(draft.tokens) == most


def test_long_prompt_is_indexed_in_pieces_the_newest_first() -> None:
    far, near = [1, 2, 3, 4, 5], [1, 2, 8, 9]
    prompt = [*far, *range(100, 1500), *near, *range(2000, 2100)]
    budget = IndexBudget(least_tokens=256)
    drafter = CopyDrafter(prompt, budget)
    drafts, held = [], [0]
    for token in [1, 2] * 20:
        budget.begin_step(0.0)
        drafter.observe(Verdict([token]))
        held.append(drafter.num_indexed)
        drafts.append(drafter.draft(2))

    # An index that is done is dropped; what was added to one is a step's share and the answer.
    assert max(later - earlier for earlier, later in itertools.pairwise(held)) <= 257
    assert tokens_of(drafts[1]) == [8, 9]
    assert held[-1] == len(prompt) + 40
    for token in (3, 4):  # only the beginning of the prompt goes on so
        budget.begin_step(0.0)
        drafter.observe(Verdict([token]))
    assert tokens_of(drafter.draft(1)) == [5]


def test_long_prompt_is_indexed_at_once_where_there_is_no_budget() -> None:
    far, filler = [1, 2, 3, 4, 5], list(range(100, 5000))

    drafter = CopyDrafter([*far, *filler, 1, 2, 3])

    assert tokens_of(drafter.draft(2)) == [4, 5]
    assert drafter.num_indexed == len(far) + len(filler) + 3


def test_requests_share_the_time_of_a_step_for_indexing() -> None:
    budget = IndexBudget(least_tokens=256)
    drafters = [CopyDrafter(range(1000), budget) for _ in range(5)]
    for step in range(40):
        before = sum(each.num_indexed for each in drafters)
        budget.begin_step(0.0)
        for each in drafters:
            each.observe(Verdict([step]))
        assert sum(each.num_indexed for each in drafters) - before <= 256 + len(drafters)

    assert [each.num_indexed for each in drafters] == [1040] * 5


def test_indexes_share_their_memory_and_leave_it_behind() -> None:
    budget = IndexBudget(max_tokens=1000, least_tokens=10_000)
    drafters = [CopyDrafter([1, 2, 3] * 70, budget) for _ in range(8)]

    def steps(count: int) -> None:
        for _ in range(count):
            budget.begin_step(0.0)
            for each in drafters:
                each.observe(Verdict([1, 2, 3]))
            assert sum(each.num_indexed for each in drafters) <= 1000 + 3 * len(drafters)

    steps(40)
    copying = [each for each in drafters if each.draft(3) is not None]
    assert 0 < len(copying) < len(drafters)
    assert all(tokens_of(each.draft(3)) == [1, 2, 3] for each in copying)

    waiting = [each for each in drafters if each not in copying]
    drafters = waiting[:2]
    del copying, waiting
    steps(2)
    assert all(each.draft(3) is not None for each in drafters)


def test_jacobi_recycles_what_came_after_the_first_wrong_guess() -> None:
    block = JacobiBlock([1, 2, 3], block_tokens=5)
    drafted = tokens_of(block.draft(8))
    assert len(drafted) == 4
    # The model says 11, 12, 13, 14, 15: none of the guesses was right.
    block.observe(Verdict([11], drafted, [11, 12, 13, 14, 15]))

    assert tokens_of(block.draft(8))[:4] == [12, 13, 14, 15]


def test_jacobi_drops_what_was_accepted() -> None:
    block = JacobiBlock([1], block_tokens=5)
    block.observe(Verdict([7, 8, 9], [7, 8, 5, 5], [7, 8, 9, 3, 4]))

    assert tokens_of(block.draft(8))[:2] == [3, 4]


def test_jacobi_tries_a_rejected_run_again() -> None:
    block = JacobiBlock([1], block_tokens=6)
    block.observe(Verdict([5], [9, 9, 9, 9], [5, 6, 7, 8, 2]))
    block.observe(Verdict([0]))  # a step that verified nothing
    block.observe(Verdict([6]))

    assert tokens_of(block.draft(3)) == [7, 8, 2]


def test_jacobi_goes_on_after_a_step_that_verified_nothing() -> None:
    block = JacobiBlock([1], block_tokens=6)
    block.observe(Verdict([5], [9, 9, 9, 9], [5, 6, 7, 8, 2]))
    block.observe(Verdict([6]))

    assert tokens_of(block.draft(3)) == [7, 8, 2]

    block.observe(Verdict([0]))  # another than was guessed

    drawn = block.draft(3)
    assert drawn is not None
    assert drawn.grade == 0


def test_jacobi_grades_what_it_offers() -> None:
    block = JacobiBlock([1], block_tokens=6)
    block.observe(Verdict([5], [9, 9], [5, 6, 3]))  # leaves the run 5, 6, 3
    block.observe(Verdict([6], [9, 9, 9, 9], [6, 7, 8, 2, 4]))  # a longer tail, though 6 is in it
    tail = block.draft(4)
    block.observe(Verdict([0]))
    block.observe(Verdict([5]))
    recycled = block.draft(4)

    assert tail is not None
    assert recycled is not None
    assert (list(tail.tokens), tail.grade) == ([7, 8, 2, 4], 1)
    assert (list(recycled.tokens[:2]), recycled.grade) == ([6, 3], 2)


@given(TOKENS.filter(bool), st.integers(1, 20), st.integers(2, 20))
def test_jacobi_fills_its_block_from_what_was_said(
    tokens: list[int], most: int, block_tokens: int
) -> None:
    drafted = tokens_of(JacobiBlock(tokens, block_tokens).draft(most))

    assert len(drafted) == min(most, block_tokens - 1)
    assert set(drafted) <= set(tokens)


def test_table_drafts_the_most_frequent_follower() -> None:
    answers = [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4], [9, 2, 7], [9, 2, 7]]
    table = build(answers, language="de", **SMALL)

    assert table.followers["1 2"] == (3, 100)
    assert TableDrafter(table, [1, 2]).draft(1) == Draft([3], grade=4)
    assert TableDrafter(table, [9, 2]).draft(1) == Draft([7], grade=4)
    assert TableDrafter(table, [0, 2]).draft(1) == Draft([3], grade=2)  # the longest that is known
    assert tokens_of(TableDrafter(table, [0, 1]).draft(8)) == [2, 3, 4]


@given(st.lists(TOKENS, min_size=1, max_size=6), TOKENS, TOKENS, st.integers(1, 4))
def test_table_is_asked_for_the_longest_context_that_it_knows(
    answers: list[list[int]], said: list[int], gained: list[int], order: int
) -> None:
    table = build(answers, language="de", **SMALL, order=order, min_count=1)
    drafter = TableDrafter(table, said, min_percent=0)
    drafter.observe(Verdict(gained))
    draft = drafter.draft(8)

    context, expected = [*said, *gained], list[int]()
    while len(expected) < 8:
        keys = (" ".join(map(str, context[-length:])) for length in range(order, 0, -1))
        found = next((table.followers[key] for key in keys if key in table.followers), None)
        if found is None:
            break
        expected.append(found[0])
        context.append(found[0])
    assert list(draft.tokens if draft is not None else ()) == expected


def test_table_forgets_what_is_rare() -> None:
    table = build([[1, 2], [1, 2], [3, 4]], language="de", **SMALL, max_contexts=1)

    assert table.followers == {"1": (2, 100)}
    assert TableDrafter(table, [3]).draft(4) is None


@given(st.lists(TOKENS, max_size=6))
def test_table_survives_its_file(answers: list[list[int]]) -> None:
    table = build(answers, language="ja", **SMALL, min_count=1)

    assert NgramTable.decode(table.encode()) == table


@pytest.mark.parametrize("token", [-1, 12, 10**9])
def test_table_with_followers_that_are_no_tokens_is_refused(token: int) -> None:
    table = NgramTable("ja", 12, "", 1, {"3": (11, 90), "4": (token, 90)})

    with pytest.raises(SetupError, match="none of its 12 tokens: build it again"):
        NgramTable.decode(table.encode())


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x85", b"garbage"])
def test_table_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(SetupError, match="build it again"):
        NgramTable.decode(data)
