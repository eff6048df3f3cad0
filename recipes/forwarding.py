"""Packs as tensors, and what a model says to them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from headstart.recipes.noise import Shown
from headstart.recipes.packing import PADDING, Pack, mask_of, pack
from headstart.recipes.samples import Sample
from headstart.recipes.trajectories import first_guess, iterate
from headstart.stages.errors import SetupError

__all__ = ["batch_of", "check_mask", "logits_of", "predictions", "trajectories"]

_COUNTED = ("students", "teachers", "learned")


def batch_of(packs: Sequence[Pack]) -> dict[str, torch.Tensor]:
    """Lay packs side by side; indices become those of the flattened batch."""
    shape = (len(packs), max(map(len, packs)))
    rows = {name: np.zeros(shape, dtype=np.int64) for name in ("tokens", "positions", "sights")}
    rows["windows"] = np.full(shape, PADDING)
    for row, item in enumerate(packs):
        for name, each in rows.items():
            each[row, : len(item)] = getattr(item, name)
    counted = {
        name: np.concatenate([getattr(item, name) + n * shape[1] for n, item in enumerate(packs)])
        for name in _COUNTED
    }
    return {name: torch.from_numpy(each) for name, each in (rows | counted).items()}


def logits_of(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Run a batch, each token seeing what it may."""
    mask = mask_of(batch["positions"], batch["windows"], batch["sights"])
    said: torch.Tensor = model(
        input_ids=batch["tokens"],
        position_ids=batch["positions"],
        attention_mask=mask[:, None],
        use_cache=False,
    ).logits
    return said


def predictions(model: Any, packs: Sequence[Pack]) -> list[np.ndarray[Any, Any]]:
    """Return the likeliest next token behind each token of each pack."""
    found = _logits(model, packs).argmax(dim=-1).cpu().numpy()
    return [row[: len(item)] for row, item in zip(found, packs, strict=True)]


def _logits(model: Any, packs: Sequence[Pack]) -> torch.Tensor:
    batch = batch_of(packs)
    with torch.inference_mode():
        return logits_of(model, {name: each.to(model.device) for name, each in batch.items()})


def trajectories(model: Any, samples: Sequence[Sample], seed: int) -> list[list[list[list[int]]]]:
    """Iterate every block of every answer at once, each behind the right tokens.

    Args:
        samples: Without their tails.
        seed: First guesses depend on it and on the samples' ids alone.

    Returns:
        States by sample and block.
    """
    blocks = [(number, block) for number, sample in enumerate(samples) for block in sample.blocks]
    tokens = [sample.tokens for sample in samples]
    randoms = [np.random.default_rng([seed, sample.id]) for sample in samples]
    guesses = [first_guess(tokens[number], block, randoms[number]) for number, block in blocks]

    def predict(states: list[list[int]]) -> list[list[int]]:
        packs = []
        cursor = 0
        for number, sample in enumerate(samples):
            own = sample.blocks
            shown = [
                Shown(state, window) for window, state in enumerate(states[cursor:][: len(own)])
            ]
            cursor += len(own)
            packs.append(pack(tokens[number], len(sample.prompt), own, shown))
        found = []
        for item, sample, said in zip(packs, samples, predictions(model, packs), strict=True):
            begin = len(sample.tokens)
            for block in sample.blocks:
                found.append(said[begin : begin + block.length].tolist())
                begin += block.length
            assert begin == len(item)
        return found

    everything = iterate(guesses, predict)
    by_sample: list[list[list[list[int]]]] = [[] for _ in samples]
    for (number, _), states in zip(blocks, everything, strict=True):
        by_sample[number].append(states)
    return by_sample


def check_mask(model: Any, item: Pack) -> None:
    """Refuse a model whose attention does not heed a mask of ours.

    Raises:
        SetupError: What it says somewhere depends on a token that it must not see there.
    """
    size = int((item.windows < 0).sum())
    if size == len(item):
        return
    # No noisy block may see the answer's last token: it lies behind where every block begins.
    changed = item.tokens.copy()
    changed[size - 1] = 0 if changed[size - 1] else 1
    one, two = (_logits(model, [each])[0, size:] for each in (item, replace(item, tokens=changed)))
    if (one - two).abs().max() > 0.05 * one.float().std():
        raise SetupError(
            "this model's attention does not heed a mask (it is no full attention), and packed "
            "sequences need one: train a model such as Llama or Qwen"
        )
