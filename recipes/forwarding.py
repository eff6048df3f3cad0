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

__all__ = ["batch_of", "behead", "check_mask", "outputs_of", "trajectories"]

_FIELDS = ("tokens", "positions", "windows", "sights")
_COUNTED = ("students", "teachers", "learned")


def batch_of(packs: Sequence[Pack]) -> dict[str, torch.Tensor]:
    """Lay packs side by side; indices become those of the flattened batch."""
    shape = (len(packs), max(map(len, packs)))
    rows = {name: np.zeros(shape, dtype=np.int64) for name in _FIELDS[:2] + _FIELDS[3:]}
    rows["windows"] = np.full(shape, PADDING)
    for row, item in enumerate(packs):
        for name, each in rows.items():
            each[row, : len(item)] = getattr(item, name)
    counted = {
        name: np.concatenate([getattr(item, name) + n * shape[1] for n, item in enumerate(packs)])
        for name in _COUNTED
    }
    return {name: torch.from_numpy(each) for name, each in (rows | counted).items()}


def outputs_of(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Run a batch, each token seeing what it may; returns logits, if the model is not headless."""
    mask = mask_of(batch["positions"], batch["windows"], batch["sights"])
    said: torch.Tensor = model(
        input_ids=batch["tokens"],
        position_ids=batch["positions"],
        attention_mask=mask[:, None],
        use_cache=False,
    ).logits
    return said


def _outputs(model: Any, item: Pack) -> torch.Tensor:
    batch = batch_of([item])
    with torch.inference_mode():
        return outputs_of(model, {name: each.to(model.device) for name, each in batch.items()})


def trajectories(model: Any, samples: Sequence[Sample], seed: int) -> list[list[list[list[int]]]]:
    """Iterate every block of every answer at once, each behind the right tokens.

    Args:
        samples: Without their tails.
        seed: First guesses depend on it and on the samples' ids alone.

    Returns:
        States by sample and block.
    """
    blocks = [(number, block) for number, sample in enumerate(samples) for block in sample.blocks]
    randoms = [np.random.default_rng([seed, sample.id]) for sample in samples]
    guesses = [
        first_guess(samples[number].tokens, block, randoms[number]) for number, block in blocks
    ]
    everything = iterate(guesses, _Iterated(model, samples).predict)
    by_sample: list[list[list[list[int]]]] = [[] for _ in samples]
    for (number, _), states in zip(blocks, everything, strict=True):
        by_sample[number].append(states)
    return by_sample


class _Iterated:
    """Prompts and answers, computed once, and the blocks behind them as often as they change."""

    def __init__(self, model: Any, samples: Sequence[Sample]) -> None:
        self._model = model
        self._lengths = [[block.length for block in sample.blocks] for sample in samples]
        clean, noisy = [], []
        for sample in samples:
            shown = [
                Shown(sample.tokens[block.start : block.end], window)
                for window, block in enumerate(sample.blocks)
            ]
            item = pack(sample.tokens, len(sample.prompt), sample.blocks, shown)
            clean.append(_part(item, slice(len(sample.tokens))))
            noisy.append(_part(item, slice(len(sample.tokens), None)))
        before, behind = batch_of(clean), batch_of(noisy)
        both = {name: torch.cat([before[name], behind[name]], dim=1) for name in _FIELDS}
        mask = mask_of(*(both[name] for name in _FIELDS[1:]))[:, None].to(model.device)
        width = before["tokens"].shape[1]
        self._tokens = behind["tokens"]
        self._positions = behind["positions"].to(model.device)
        self._mask = mask[:, :, width:]
        with torch.inference_mode():
            self._past = model(
                input_ids=before["tokens"].to(model.device),
                position_ids=before["positions"].to(model.device),
                attention_mask=mask[:, :, :width, :width],
                use_cache=True,
                logits_to_keep=1,
            ).past_key_values

    def predict(self, states: list[list[int]]) -> list[list[int]]:
        """Return what the model says behind each token of each block."""
        left = iter(states)
        for row, lengths in enumerate(self._lengths):
            flat = [token for _ in lengths for token in next(left)]
            self._tokens[row, : len(flat)] = torch.tensor(flat, dtype=torch.int64)
        with torch.inference_mode():
            said = self._model(
                input_ids=self._tokens.to(self._model.device),
                position_ids=self._positions,
                attention_mask=self._mask,
                past_key_values=self._past,
                use_cache=True,
            ).logits.argmax(dim=-1)
            self._past.crop(-self._tokens.shape[1])
        found = []
        for predicted, lengths in zip(said.tolist(), self._lengths, strict=True):
            begin = 0
            for length in lengths:
                found.append(predicted[begin : begin + length])
                begin += length
        return found


def _part(item: Pack, which: slice) -> Pack:
    """Some of a pack's tokens, none of which is learned from."""
    none = np.zeros(0, dtype=np.int64)
    return Pack(
        tokens=item.tokens[which],
        positions=item.positions[which],
        windows=item.windows[which],
        sights=item.sights[which],
        students=none,
        teachers=none,
        learned=none,
    )


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
    one, two = (_outputs(model, each)[0, size:] for each in (item, replace(item, tokens=changed)))
    if (one - two).abs().max() > 0.05 * one.float().std():
        raise SetupError(
            "this model's attention does not heed a mask (it is no full attention), and packed "
            "sequences need one: train a model such as Llama or Qwen"
        )


def behead(model: Any, item: Pack) -> torch.Tensor:
    """Make a model give what its head is applied to, in place of logits; returns the head.

    Raises:
        SetupError: Its logits are no plain product of the two.
    """
    head = model.get_output_embeddings()
    if head is not None:
        logits = _outputs(model, item)
        head.forward = _as_it_is
        product = _outputs(model, item) @ head.weight.detach().T
        # What is no number is found out about, and said, in the first step.
        if not (product - logits).abs().max() > 0.1 * logits.std():
            return head.weight  # type: ignore[no-any-return]
    raise SetupError(
        "this model does more to its logits than multiply with a matrix, and the losses are made "
        "for that alone: train a model such as Llama or Qwen"
    )


def _as_it_is(hidden: torch.Tensor) -> torch.Tensor:
    return hidden
