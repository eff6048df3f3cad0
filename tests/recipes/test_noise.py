"""Which states of trajectories are shown."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headstart.recipes.noise import augmented, drawn, refilled, scheduled

TAILS = [[9] * length for length in (15, 12, 8, 4, 1)]
"""Of a block of 16."""


def test_noise_grows_through_each_window_and_starts_anew() -> None:
    shown = scheduled([TAILS] * 12, [16] * 12, 4, 0.3)

    windows = [each.window for each in shown]
    assert windows == sorted(windows)
    for one, other in pairwise(shown):
        if one.window == other.window:
            assert len(one.tail) < len(other.tail)
        else:
            assert (len(one.tail), len(other.tail)) == (15, 0)


def test_every_block_is_shown_at_every_noise_in_time() -> None:
    runs = [scheduled([TAILS] * 3, [16] * 3, 16, phase / 10) for phase in range(10)]

    for block in range(3):
        assert {len(run[block].tail) for run in runs} == {0, 8, 15}


def test_a_single_block_is_shown_as_noisy_as_the_phase_says() -> None:
    lengths = {len(scheduled([TAILS], [16], 8, phase / 30)[0].tail) for phase in range(30)}

    assert lengths == {0, 1, 4, 8, 12, 15}


def test_cllm_shows_any_state_behind_right_tokens() -> None:
    random = np.random.default_rng(0)
    runs = [drawn([TAILS, []], random) for _ in range(60)]

    assert {len(run[0].tail) for run in runs} == {1, 4, 8, 12, 15}
    assert all(run[1].tail == [] and run[0].window != run[1].window for run in runs)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(0))
def test_augmenting_sets_wrong_tokens_right_and_never_the_first(tail: list[int], seed: int) -> None:
    right = [(token + 1) % 4 if index % 2 == 0 else token for index, token in enumerate(tail)]

    found = augmented(tail, right, 0.5, np.random.default_rng(seed))

    assert found[0] == tail[0] != right[0]
    assert all(new in (old, meant) for new, old, meant in zip(found, tail, right, strict=True))
    assert augmented(tail, right, 0.0, np.random.default_rng(seed)) == tail


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0))
def test_a_refilled_tail_keeps_its_beginning(tail: list[int], seed: int) -> None:
    found = refilled(tail, [50, 51], np.random.default_rng(seed))

    kept = next((index for index, token in enumerate(found) if token >= 50), len(found))
    assert len(found) == len(tail)
    assert found[:kept] == tail[:kept]
    assert kept >= min(1, len(tail))
    assert set(found[kept:]) <= {50, 51}
