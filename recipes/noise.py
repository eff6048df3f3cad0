"""How wrong each block is shown in training: Jacobi Forcing's schedule, and CLLM's chance."""

from collections.abc import Sequence

import numpy as np

__all__ = ["Shown", "augmented", "drawn", "refilled", "scheduled"]

Tails = Sequence[Sequence[int]]
"""States of a block, each from its first wrong token on."""


class Shown:
    """A state of a block that is shown, and which of its blocks see each other.

    Args:
        tail: From the first wrong token on; empty shows the block as it is.
        window: Blocks of one window see each other's noise, and right tokens before it.
    """

    __slots__ = ("tail", "window")

    def __init__(self, tail: list[int], window: int) -> None:
        self.tail = tail
        self.window = window


def scheduled(
    trajectories: Sequence[Tails], lengths: Sequence[int], window: int, phase: float
) -> list[Shown]:
    """Show the blocks of an answer ever more wrong through each window (2512.14681).

    The noise of a window's blocks goes from none to everything in equal steps, and each shows the
    state of its trajectory that is nearest.

    Args:
        trajectories: Of each block.
        lengths: Of each block, in tokens.
        window: Blocks in a window.
        phase: Where in a window the answer begins, from 0 to 1. To be drawn: answers are often
            shorter than a window, and each block shall be seen at every noise.
    """
    span = min(window, len(lengths))
    found = []
    for number, (tails, length) in enumerate(zip(trajectories, lengths, strict=True)):
        turn, place = divmod(number + int(phase * span), span)
        level = place / (span - 1) if span > 1 else phase
        found.append(Shown(_nearest(tails, length, level), turn))
    return found


def drawn(trajectories: Sequence[Tails], random: np.random.Generator) -> list[Shown]:
    """Show any state of each block, all of them behind right tokens (2403.00835)."""
    found = []
    for number, tails in enumerate(trajectories):
        tail = list(tails[int(random.integers(len(tails)))]) if tails else []
        found.append(Shown(tail, number))
    return found


def augmented(
    tail: Sequence[int], right: Sequence[int], share: float, random: np.random.Generator
) -> list[int]:
    """Set some wrong tokens right, never the first one.

    Args:
        right: What the tail should be.
        share: Of the wrong tokens, how many are picked, with replacement.
    """
    found = list(tail)
    wrong = [index for index in range(1, len(tail)) if tail[index] != right[index]]
    if wrong:
        for index in random.choice(wrong, round(share * len(wrong))):
            found[index] = right[index]
    return found


def refilled(tail: Sequence[int], before: Sequence[int], random: np.random.Generator) -> list[int]:
    """Draw a tail's last tokens from what stands before it, none of them or many.

    The server's block slides: where its beginning has been accepted, its end is filled so.
    """
    kept = int(random.integers(1, len(tail) + 1)) if tail else 0
    fresh = random.integers(0, len(before), len(tail) - kept)
    return [*tail[:kept], *(before[index] for index in fresh)]


def _nearest(tails: Tails, length: int, level: float) -> list[int]:
    states: list[Sequence[int]] = [*tails, []]
    distances = [abs(len(tail) / length - level) for tail in states]
    return list(states[distances.index(min(distances))])
