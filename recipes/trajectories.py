"""Jacobi trajectories: what the guesses of a block looked like on their way to the answer.

A block is a run of an answer's tokens, its first one known, as the server's Jacobi steps have it
(`headstart.stages.jacobi`). A state of the block is kept as its *tail*: the tokens from the first
wrong one on. The rest of a state is the answer itself, so a shorter tail is nearer to the end, and
the last state of all has none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Block", "Counts", "blocks_of", "count", "first_guess", "iterate", "tail_of"]

Predict = Callable[[list[list[int]]], list[list[int]]]
"""From a state of every block to what the model says after each of its tokens."""


@dataclass(frozen=True, slots=True)
class Block:
    """Where a block lies in prompt and answer together."""

    start: int
    """Index of its first token, which is known."""
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the trajectories of one block; the figures that CLLM's paper reports."""

    fast_forwarded: float
    """Tokens by which the right beginning grew in an iteration, on average: 1.0 is one by one."""
    stationary: int
    """Tokens that were right behind a wrong one, and stayed so to the end."""
    iterations: int


def blocks_of(num_prompt: int, num_answer: int, block_tokens: int, offset: int = 0) -> list[Block]:
    """Cut an answer into blocks.

    Args:
        offset: How many tokens of the answer come before the first block. Those tokens, and a rest
            of one token at the end, where nothing is to guess, are in no block.
    """
    end = num_prompt + num_answer
    starts = range(num_prompt + offset, end - 1, block_tokens)
    return [Block(start, min(block_tokens, end - start)) for start in starts]


def first_guess(tokens: Sequence[int], block: Block, random: np.random.Generator) -> list[int]:
    """Return the state that decoding begins with: guesses drawn from what stands before."""
    drawn = random.integers(0, block.start + 1, block.length - 1)
    return [tokens[block.start], *(tokens[index] for index in drawn)]


def iterate(guesses: list[list[int]], predict: Predict) -> list[list[list[int]]]:
    """Iterate all blocks at once, each until it stays as it is.

    Args:
        guesses: First state of each block, its first token right.
        predict: The model, which sees the right tokens before each block.

    Returns:
        Every state of each block in order: the first guess first, the fixed point last.
    """
    states = [[guess] for guess in guesses]
    # The right beginning grows by a token an iteration at the least.
    for _ in range(max(map(len, guesses), default=0)):
        found = predict([each[-1] for each in states])
        moved = False
        for each, predicted in zip(states, found, strict=True):
            following = [each[-1][0], *predicted[: len(each[-1]) - 1]]
            if following != each[-1]:
                each.append(following)
                moved = True
        if not moved:
            break
    return states


def tail_of(state: Sequence[int], answer: Sequence[int]) -> list[int]:
    """Return a state from its first wrong token on."""
    for index, (guess, right) in enumerate(zip(state, answer, strict=True)):
        if guess != right:
            return list(state[index:])
    return []


def count(states: Sequence[Sequence[int]]) -> Counts | None:
    """Count what a trajectory gained; None where its first guess was right.

    Args:
        states: As of `iterate`.
    """
    if len(states) < 2:
        return None
    right = np.array(states) == np.array(states[-1])
    prefixes = np.where(right.all(axis=1), right.shape[1], right.argmin(axis=1))
    # Position by position: the first state from which on it is right.
    wrong = ~right[::-1]
    since = np.where(wrong.any(axis=0), right.shape[0] - wrong.argmax(axis=0), 0)
    # A first guess that happened to be right was no prediction.
    stationary = int(((since > 0) & (prefixes[since] < np.arange(right.shape[1]))).sum())
    iterations = right.shape[0] - 1
    return Counts(float((prefixes[-1] - prefixes[0]) / iterations), stationary, iterations)
