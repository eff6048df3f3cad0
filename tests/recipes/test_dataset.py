"""Which sample comes when."""

from pathlib import Path

import numpy as np
import pytest

from headstart.recipes.consistency_options import TrainOptions
from headstart.recipes.dataset import HeldOut, PackedSamples, parted
from headstart.recipes.samples import Sample

NUM = 1000


def epoch(batch: int, seed: int = 0) -> list[int]:
    """Lengths of answers in the order in which they come; each length is another sample's."""
    samples = [Sample(number, [1], [2] * (number + 1), 0, 0, []) for number in range(NUM)]
    here = Path("here")
    options = TrainOptions(model="m", data=here, out=here, method="sft", batch=batch, seed=seed)
    packs = PackedSamples(samples, range(NUM), options, 2 * NUM)
    return [len(packs[index]) for index in range(NUM)]


@pytest.mark.parametrize("batch", [1, 8, 7])
def test_every_sample_comes_once_in_an_order_of_its_own(batch: int) -> None:
    assert sorted(epoch(batch)) == list(range(2, NUM + 2))
    assert epoch(batch) == epoch(batch) != epoch(batch, seed=1)


def test_what_is_set_aside_is_not_trained_on_and_always_the_same() -> None:
    samples = [Sample(number, [1], [2] * (number + 1), 0, 0, []) for number in range(NUM)]
    here = Path("here")
    options = TrainOptions(model="m", data=here, out=here, method="sft")

    numbers, aside = parted(NUM, 32, seed=0)

    assert sorted(numbers + aside) == list(range(NUM))
    assert (len(aside), parted(NUM, 32, seed=0)) == (32, (numbers, aside))
    packs = PackedSamples(samples, numbers, options, NUM)
    lengths = {len(packs[index]) for index in range(NUM)}
    held = HeldOut(samples, aside, options)
    assert not lengths & {len(held[index]) for index in range(32)}
    assert parted(19, 32, seed=0) == (list(range(19)), [])


def test_samples_of_a_batch_are_alike_and_batches_are_not() -> None:
    batches = np.array(epoch(8)).reshape(-1, 8)

    padding = 1 - batches.sum() / (batches.max(axis=1) * 8).sum()
    assert padding < 0.03
    assert np.corrcoef(batches[:-1, 0], batches[1:, 0])[0, 1] < 0.3
