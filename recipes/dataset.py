"""Samples as the Trainer gets them: which one comes when, and with what noise."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from headstart.recipes.noise import Shown, augmented, drawn, refilled, scheduled
from headstart.recipes.packing import Pack, pack
from headstart.recipes.samples import Sample, SampleFile
from headstart.recipes.training import TrainOptions

__all__ = ["PackedSamples", "packed"]


class PackedSamples(Dataset[Pack]):
    """Samples in a drawn order, each with drawn noise; an index says which and how.

    Args:
        samples: What `collect` made, or samples without trajectories.
        num: How many are drawn in all.
    """

    def __init__(self, samples: SampleFile | list[Sample], options: TrainOptions, num: int) -> None:
        self._samples = samples
        self._options = options
        self._num = num
        self._order: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, index: int) -> Pack:
        options = self._options
        epoch, place = divmod(index, len(self._samples))
        if self._order[0] != epoch:
            random = np.random.default_rng([options.seed, epoch])
            self._order = (epoch, random.permutation(len(self._samples)))
        sample = self._samples[int(self._order[1][place])]
        random = np.random.default_rng([options.seed, 1, index])
        return packed(sample, options, random)


def packed(sample: Sample, options: TrainOptions, random: np.random.Generator) -> Pack:
    """Draw the noise of a sample's blocks and lay it out."""
    tokens = sample.tokens[: options.max_length]
    room = options.max_length - len(tokens)
    blocks, tails = [], []
    for block, states in zip(sample.blocks, sample.tails, strict=True):
        room -= block.length
        if room < 0 or block.end > len(tokens):
            break
        blocks.append(block)
        tails.append(states)
    if options.method == "cllm":
        shown = drawn(tails, random)
    else:
        shown = scheduled(tails, [block.length for block in blocks], options.window, random)
    noisy = []
    for block, state in zip(blocks, shown, strict=True):
        tail = state.tail
        right = tokens[block.end - len(tail) : block.end]
        tail = augmented(tail, right, options.augment, random)
        if random.random() < options.refill:
            tail = refilled(tail, tokens[: block.start + 1], random)
        noisy.append(Shown(tail, state.window))
    return pack(tokens, len(sample.prompt), blocks, noisy)
