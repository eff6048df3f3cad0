"""Samples as the Trainer gets them: which one comes when, and with what noise."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from headstart.recipes.consistency_options import TrainOptions
from headstart.recipes.noise import Shown, augmented, drawn, refilled, scheduled
from headstart.recipes.packing import Pack, pack
from headstart.recipes.samples import Sample, SampleFile
from headstart.recipes.trajectories import Block

__all__ = ["HeldOut", "Order", "PackedSamples", "packed", "parted"]

_SORTED_BATCHES = 64
"""Whose samples are sorted by length, so that a batch pads little; batches are shuffled."""


class Order:
    """Which sample comes when: each epoch has an order of its own, drawn from the seed.

    Args:
        num: Of samples.
        batch: Whose samples are of like length.
        length: Of a sample, by its number.
    """

    def __init__(self, num: int, seed: int, batch: int, length: Callable[[int], int]) -> None:
        self._num = num
        self._seed = seed
        self._batch = batch
        self._length = length
        self._lengths: Any = None
        self._epoch: tuple[int, Any] = (-1, None)

    def place(self, index: int) -> int:
        """Return the number of the sample that is the `index`th to be seen."""
        epoch, place = divmod(index, self._num)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._drawn(np.random.default_rng([self._seed, epoch])))
        return int(self._epoch[1][place])

    def _drawn(self, random: np.random.Generator) -> Any:
        order = random.permutation(self._num)
        size = self._batch
        if size == 1:
            return order
        if self._lengths is None:
            self._lengths = np.array([self._length(number) for number in range(self._num)])
        batches: list[Any] = []
        for begin in range(0, len(order), size * _SORTED_BATCHES):
            some = order[begin : begin + size * _SORTED_BATCHES]
            some = some[np.argsort(self._lengths[some], kind="stable")]
            cut = [some[first : first + size] for first in range(0, len(some), size)]
            # A batch that is not full comes last: behind it none would be what was sorted.
            whole = [each for each in cut if len(each) == size]
            batches += [whole[place] for place in random.permutation(len(whole))]
            batches += [each for each in cut if len(each) < size]
        return np.concatenate(batches)


def parted(num: int, held_out: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the numbers of the samples to train on, and of those that are set aside."""
    drawn = np.random.default_rng([seed, 2]).permutation(num)[: min(held_out, num // 20)]
    aside = set(drawn.tolist())
    return [number for number in range(num) if number not in aside], sorted(aside)


class PackedSamples(Dataset[Pack]):
    """Samples in a drawn order, each with drawn noise; an index says which and how.

    Args:
        samples: What `collect` made, or samples without trajectories.
        numbers: Those of them that are trained on.
        num: How many are drawn in all.
    """

    def __init__(
        self,
        samples: SampleFile | list[Sample],
        numbers: Sequence[int],
        options: TrainOptions,
        num: int,
    ) -> None:
        self._samples = samples
        self._numbers = numbers
        self._options = options
        self._num = num
        self._order = Order(len(numbers), options.seed, options.batch, self._length)

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, index: int) -> Pack:
        options = self._options
        sample = self._samples[self._numbers[self._order.place(index)]]
        random = np.random.default_rng([options.seed, 1, index])
        return packed(sample, options, random)

    def _length(self, number: int) -> int:
        sample = self._samples[self._numbers[number]]
        return len(sample.prompt) + len(sample.answer)


class HeldOut(Dataset[Pack]):
    """Samples that are set aside, each with the same noise whenever it is asked for."""

    def __init__(
        self, samples: SampleFile | list[Sample], numbers: Sequence[int], options: TrainOptions
    ) -> None:
        self._samples = samples
        self._numbers = numbers
        self._options = options

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Pack:
        number = self._numbers[index]
        random = np.random.default_rng([self._options.seed, 3, number])
        return packed(self._samples[number], self._options, random)


def packed(sample: Sample, options: TrainOptions, random: np.random.Generator) -> Pack:
    """Draw the noise of a sample's blocks, once for each of its copies, and lay it out."""
    tokens = sample.tokens[: options.max_length]
    room = options.max_length - len(tokens)
    blocks: list[Block] = []
    shown: list[Shown] = []
    phase = random.random()
    for copy in range(options.copies):
        fitting, tails = [], []
        for block, states in zip(sample.blocks, sample.tails, strict=True):
            room -= block.length
            if room < 0 or block.end > len(tokens):
                break
            fitting.append(block)
            tails.append(states)
        if options.method == "cllm":
            chosen = drawn(tails, random)
        else:
            # Copies show each block at noises that lie evenly apart.
            turned = (phase + copy / options.copies) % 1
            chosen = scheduled(tails, [each.length for each in fitting], options.window, turned)
        for block, state in zip(fitting, chosen, strict=True):
            tail = _disturbed(state.tail, tokens[: block.end], block, options, random)
            shown.append(Shown(tail, state.window + copy * len(sample.blocks)))
        blocks += fitting
    return pack(tokens, len(sample.prompt), blocks, shown)


def _disturbed(
    tail: list[int],
    tokens: list[int],
    block: Block,
    options: TrainOptions,
    random: np.random.Generator,
) -> list[int]:
    right = tokens[len(tokens) - len(tail) :]
    tail = augmented(tail, right, options.augment, random)
    if random.random() < options.refill:
        tail = refilled(tail, tokens[: block.start + 1], random)
    return tail
