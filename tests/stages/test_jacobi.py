"""Jacobi blocks over small models that are pure functions: exact, and more tokens a step."""

import random
from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.drafting import Draft, Proposer, Verdict
from headstart.stages.jacobi import SAID_GRADE, JacobiBlock

Model = Callable[[Sequence[int]], int]
"""What it says after some tokens."""

BLOCK = 16
VOCABULARY = 16


class Plain:
    """Jacobi steps without a pool: the tail, then what is drawn."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._context = list(tokens)
        self._tail: list[int] = []
        self._random = random.Random(0)

    def observe(self, verdict: Verdict) -> None:
        self._tail = list(verdict.predictions[verdict.num_accepted + 1 :])
        self._context.extend(verdict.tokens)

    def draft(self, max_tokens: int) -> Draft | None:
        missing = max_tokens - len(self._tail)
        return Draft([*self._tail, *self._random.choices(self._context, k=missing)][:max_tokens])


def phrases(seed: int, surprise: float) -> Model:
    """What follows two tokens is nearly always the same; now and then it is anything."""
    chance = random.Random(seed)
    usual = {
        (one, other): chance.randrange(VOCABULARY)
        for one in range(VOCABULARY)
        for other in range(VOCABULARY)
    }

    def says(tokens: Sequence[int]) -> int:
        dice = random.Random(hash((seed, len(tokens), *tokens[-6:])))
        if dice.random() < surprise:
            return dice.randrange(VOCABULARY)
        return usual[tokens[-2], tokens[-1]]

    return says


def decoded(says: Model, prompt: Sequence[int], block: Proposer, length: int) -> list[int]:
    """Decode so many tokens, verified as vLLM does it; return what each step gained."""
    tokens, gains = list(prompt), list[int]()
    while sum(gains) < length:
        draft = block.draft(BLOCK - 1)
        drafted = list(draft.tokens) if draft is not None else []
        predictions = [says([*tokens, *drafted[:at]]) for at in range(len(drafted) + 1)]
        right = 0
        while right < len(drafted) and drafted[right] == predictions[right]:
            right += 1
        gained = predictions[: right + 1]
        tokens += gained
        gains.append(len(gained))
        block.observe(Verdict(gained, drafted, predictions))
    plain = list(prompt)
    while len(plain) < len(tokens):
        plain.append(says(plain))
    assert tokens == plain
    return gains


def test_the_pool_and_what_was_said_gain_tokens() -> None:
    """Over answers of one fifth of surprises, beside steps that keep the tail alone."""
    steps = {"pool": 0, "plain": 0}
    for seed in range(12):
        says, prompt = phrases(seed, 0.2), [seed, seed + 1, seed + 2]
        steps["pool"] += len(decoded(says, prompt, JacobiBlock(prompt, BLOCK), 200))
        steps["plain"] += len(decoded(says, prompt, Plain(prompt), 200))

    assert steps["plain"] > 1.15 * steps["pool"]


def test_the_kind_that_is_right_is_chosen() -> None:
    """A model that repeats a phrase: what was said tells it, and soon whole blocks are right."""
    phrase = random.Random(1).sample(range(VOCABULARY), VOCABULARY)

    def says(tokens: Sequence[int]) -> int:
        return phrase[(phrase.index(tokens[-1]) + 1) % len(phrase)]

    gains = decoded(says, phrase, JacobiBlock(phrase, BLOCK), 300)

    assert gains[-1] == BLOCK
    assert sum(gains[5:]) > 0.9 * BLOCK * len(gains[5:])


def test_a_tail_that_is_right_is_preferred_to_a_pool_that_is_not() -> None:
    """As of weights that are tuned for it: the model says the same whatever was guessed before."""

    def says(tokens: Sequence[int]) -> int:
        return random.Random(len(tokens)).randrange(VOCABULARY)

    gains = decoded(says, [0, 1, 2], JacobiBlock([0, 1, 2], BLOCK), 400)

    assert sum(gains) / len(gains) > BLOCK / 2


def test_drafts_that_begin_with_what_was_said_can_be_told() -> None:
    said = JacobiBlock([1, 2, 3, 1, 2], BLOCK).draft(3)
    drawn = JacobiBlock([1, 2, 3, 4], BLOCK).draft(3)
    tail = JacobiBlock([1, 2, 3, 1], BLOCK)
    tail.observe(Verdict([2], [9, 9], [2, 8, 7]))
    found = tail.draft(3)

    assert said is not None
    assert (said.tokens[0], said.grade) == (3, SAID_GRADE)
    assert drawn is not None
    assert drawn.grade != SAID_GRADE
    assert found is not None
    assert (found.tokens[0], found.grade == SAID_GRADE) == (8, False)


def test_what_is_kept_is_bounded() -> None:
    block = JacobiBlock(list(range(5_000)), BLOCK, pool_size=64)
    for at in range(2_000):
        drafted = list(range(at, at + BLOCK - 1))
        block.observe(Verdict([at], drafted, list(range(at + 7, at + 7 + BLOCK))))

    assert len(block._pool._after) <= 64
    assert len(block._said._after) <= 4_096


@given(
    st.integers(0, 1_000),
    st.floats(0, 1),
    st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=9),
)
def test_answers_are_the_models_own(seed: int, surprise: float, prompt: list[int]) -> None:
    decoded(phrases(seed, surprise), prompt, JacobiBlock(prompt, BLOCK), 30)
