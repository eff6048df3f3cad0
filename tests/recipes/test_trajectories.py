"""Jacobi trajectories of models that are written down."""

from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headstart.recipes.trajectories import Block, blocks_of, count, first_guess, iterate, tail_of

ANSWER = [7, 1, 4, 1, 5, 9, 2, 6]


def counting(blocks: list[list[int]]) -> list[list[int]]:
    """A model that says the number after the one it sees, whatever came before."""
    return [[token + 1 for token in block] for block in blocks]


def hashing(vocabulary: int) -> Callable[[Sequence[int]], int]:
    """A model that needs all that came before."""
    return lambda context: hash(tuple(context)) % vocabulary


def greedy(model: Callable[[Sequence[int]], int], prompt: list[int], num: int) -> list[int]:
    tokens = list(prompt)
    while len(tokens) < len(prompt) + num:
        tokens.append(model(tokens))
    return tokens


def test_blocks_cover_the_answer_from_an_offset_on() -> None:
    assert blocks_of(3, 8, 4) == [Block(3, 4), Block(7, 4)]
    assert blocks_of(3, 8, 4, offset=1) == [Block(4, 4), Block(8, 3)]
    assert blocks_of(3, 9, 4) == [Block(3, 4), Block(7, 4)]  # one token: nothing to guess
    assert blocks_of(3, 1, 4) == []


def test_a_model_of_the_last_token_alone_needs_every_step() -> None:
    states = iterate([[5, 0, 0, 0]], counting)[0]

    assert states == [[5, 0, 0, 0], [5, 6, 1, 1], [5, 6, 7, 2], [5, 6, 7, 8]]


def test_a_block_that_is_right_is_left_alone() -> None:
    assert iterate([[5, 6, 7], [1, 1, 1]], counting)[0] == [[5, 6, 7]]


@given(st.integers(0, 9), st.integers(2, 6), st.integers(1, 20), st.integers(0, 5), st.integers(0))
def test_the_fixed_point_is_the_greedy_answer(
    first: int, size: int, num: int, offset: int, seed: int
) -> None:
    model = hashing(10)
    tokens = greedy(model, [first, 3], num)
    blocks = blocks_of(2, num, size, offset)
    random = np.random.default_rng(seed)
    guesses = [first_guess(tokens, block, random) for block in blocks]

    def predict(states: list[list[int]]) -> list[list[int]]:
        return [
            [model([*tokens[: block.start], *state[: index + 1]]) for index in range(len(state))]
            for block, state in zip(blocks, states, strict=True)
        ]

    for block, states in zip(blocks, iterate(guesses, predict), strict=True):
        assert states[-1] == tokens[block.start : block.end]
        lengths = [len(tail_of(state, states[-1])) for state in states]
        assert lengths == sorted(set(lengths), reverse=True)
        assert len(states) <= block.length


def test_a_tail_begins_with_the_first_wrong_token() -> None:
    assert tail_of([7, 1, 0, 1, 0], ANSWER[:5]) == [0, 1, 0]
    assert tail_of(ANSWER, ANSWER) == []


def test_counts_are_those_of_a_trajectory_by_hand() -> None:
    states = [
        [7, 0, 0, 1, 0],  # the fourth is right by chance
        [7, 1, 0, 1, 5],  # one more; the fifth is right behind a wrong one, and stays
        [7, 1, 4, 1, 5],
    ]
    found = count(states)

    assert found is not None
    assert (found.fast_forwarded, found.stationary, found.iterations) == (2.0, 1, 2)
    assert count([ANSWER]) is None


def test_what_was_right_and_then_wrong_is_not_stationary() -> None:
    found = count([[7, 0, 0, 0], [7, 1, 0, 1], [7, 1, 4, 0], [7, 1, 4, 1]])

    assert found is not None
    assert found.stationary == 0
