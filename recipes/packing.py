"""One answer and all its noisy blocks as one sequence: one forward pass trains every block.

Prompt and answer come first, as they are; behind them every block once more or several times, as a
state of its trajectory, with the positions of the original. A mask decides who sees whom
(2512.14681): the answer sees itself only; a noisy block sees prompt and answer before its window,
the noisy blocks of its window before it, and itself up to each token. Right tokens with which a
window begins are those of the answer in all that they see: they are not computed again, and what
follows sees the answer up to there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.recipes.noise import Shown
from headstart.recipes.trajectories import Block

__all__ = ["PADDING", "Pack", "mask_of", "pack"]

PADDING = -2
"""Window of what fills a row up."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pack:
    """A sequence to run, and which of its predictions count."""

    tokens: Ints
    positions: Ints
    windows: Ints
    """By token: -1 in prompt and answer, else the number of the noisy block's window."""
    sights: Ints
    """By token: how many of the tokens of prompt and answer it may see."""
    students: Ints
    """Indices behind which a noisy block's prediction counts."""
    teachers: Ints
    """Of each student, the index of the same token in the answer as it is."""
    learned: Ints
    """Indices of the prompt's last token and the answer's tokens but the last: the next token
    of each is known."""

    def __len__(self) -> int:
        return len(self.tokens)


def pack(
    tokens: Sequence[int], num_prompt: int, blocks: Sequence[Block], shown: Sequence[Shown]
) -> Pack:
    """Lay out a sample.

    Args:
        tokens: Prompt and answer.
        blocks: Of the answer, those of each window in order.
        shown: What is shown of each block.
    """
    size = len(tokens)
    sequence, positions = list(tokens), list(range(size))
    windows, sights = [-1] * size, list(range(1, size + 1))
    students: list[int] = []
    teachers: list[int] = []
    opened: dict[int, int] = {}
    for block, state in zip(blocks, shown, strict=True):
        wrong = block.end - len(state.tail)
        first = block.start if state.window in opened else wrong
        if first == block.end:
            continue
        begin = len(sequence) - first
        sequence += [*tokens[first:wrong], *state.tail]
        positions += range(first, block.end)
        windows += [state.window] * (block.end - first)
        sights += [opened.setdefault(state.window, first)] * (block.end - first)
        # From the first wrong token on, as far as there is a next token.
        counted = range(wrong, min(block.end, size - 1))
        students += (begin + place for place in counted)
        teachers += counted
    columns = (sequence, positions, windows, sights, students, teachers)
    learned = range(num_prompt - 1, size - 1)
    return Pack(*(np.array(column, dtype=np.int64) for column in (*columns, learned)))


def mask_of(positions: Any, windows: Any, sights: Any) -> Any:
    """Return who (rows) sees whom (columns), of one pack or of several side by side.

    Args:
        positions: Arrays or tensors, the fields of `Pack`.
        windows: `PADDING` sees and is seen by its like alone.
    """
    is_clean = windows == -1
    clean = is_clean[..., None, :] & (positions[..., None, :] < sights[..., :, None])
    own = ~is_clean[..., :, None] & (windows[..., :, None] == windows[..., None, :])
    return clean | (own & (positions[..., None, :] <= positions[..., :, None]))
