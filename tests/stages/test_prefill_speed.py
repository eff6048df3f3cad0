"""How large slices are, on simulated replicas."""

import random
from itertools import pairwise
from statistics import mean

import pytest

from headstart.stages.warm_budget import PrefillSpeed

BLOCK, SLICE_S = 16, 0.1


def sizes(
    fixed_s: float, token_s: float, *, noise: float = 0.0, first_s: float = 0.0, num: int = 80
) -> list[tuple[int, float]]:
    """Tokens and seconds of slices on a replica that takes so long for them."""
    chooser, speed = random.Random(1), PrefillSpeed(BLOCK, SLICE_S)
    slices: list[tuple[int, float]] = []
    for number in range(num):
        tokens = speed.slice_tokens
        seconds = (fixed_s + token_s * tokens) * chooser.lognormvariate(0.0, noise)
        seconds += first_s if number < 2 else 0.0
        speed.observe(tokens, seconds)
        slices.append((tokens, seconds))
    return slices


@pytest.mark.parametrize("noise", [0.0, 0.15])
@pytest.mark.parametrize("first_s", [0.0, 2.0])
@pytest.mark.parametrize(
    ("fixed_s", "token_s"),
    [(0.0, 0.001), (0.04, 0.0009), (0.06, 0.0003), (0.02, 0.00001), (0.0, 0.003)],
)
def test_slices_take_nearly_as_long_as_they_may(
    fixed_s: float, token_s: float, noise: float, first_s: float
) -> None:
    settled = sizes(fixed_s, token_s, noise=noise, first_s=first_s)[30:]

    ideal = (SLICE_S - fixed_s) / token_s
    assert mean(tokens for tokens, _ in settled) >= max(BLOCK, 0.6 * ideal - BLOCK)
    assert mean(seconds for _, seconds in settled) <= 1.1 * SLICE_S
    over = sum(seconds > 1.5 * SLICE_S for _, seconds in settled)
    assert over <= (0 if not noise else len(settled) // 10)


def test_a_replica_that_cannot_do_a_block_in_time_does_one_at_a_time() -> None:
    assert {tokens for tokens, _ in sizes(0.15, 0.001)} == {BLOCK}


def test_one_that_took_too_long_is_not_followed_by_another() -> None:
    speed = PrefillSpeed(BLOCK, SLICE_S)
    for tokens in (16, 32, 64, 80):
        speed.observe(tokens, tokens * 0.001)
    assert speed.slice_tokens == 96
    speed.observe(96, 0.4)
    assert speed.slice_tokens == 16
    speed.observe(16, 0.016)
    assert speed.slice_tokens >= 80


def test_slices_grow_no_faster_than_twofold() -> None:
    tokens = [tokens for tokens, _ in sizes(0.01, 0.00001, num=10)]
    assert tokens[0] == BLOCK
    assert all(more <= 2 * less for less, more in pairwise(tokens))
