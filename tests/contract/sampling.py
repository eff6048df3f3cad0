"""Whether what an engine samples is what its model says: chi-square on two tokens of answers."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstart.cluster.stream import Stream
from tests.contract.asking import COMPLETIONS, Subject
from tests.support.streams import body, finished
from tests.support.waiting import soon

__all__ = ["NUM_SAMPLES", "check_sampling"]

NUM_SAMPLES = 2000

_PROMPT, _TEMPERATURE = [5, 6, 7, 8, 5, 6, 9], 0.3


async def check_sampling(
    subject: Subject,
    model: Path,
    at_once: int,
    ended: Callable[[Stream], None],
    **fields: Any,
) -> None:
    """Sample, and compare with the chances that transformers computes.

    Args:
        model: Folder of the model that is served.
        at_once: How many samples are asked for side by side.
        ended: Told of every answer's stream.
        fields: Of each request besides.
    """
    places = asyncio.Semaphore(at_once)

    async def sample() -> tuple[int, int]:
        async with places:
            stream = subject.serve(
                COMPLETIONS,
                prompt=_PROMPT,
                max_tokens=3,
                temperature=_TEMPERATURE,
                ignore_eos=True,
                return_token_ids=True,
                **fields,
            )
            await soon(finished(stream), 120)
        ended(stream)
        first, second, _ = body(stream)["choices"][0]["token_ids"]
        return first, second

    found = await asyncio.gather(*(sample() for _ in range(NUM_SAMPLES)))

    chances = _pairs(model)
    second = chances.sum(axis=0)
    # One in a hundred million by chance, at 19 degrees of freedom.
    assert _distance(chances.ravel(), [one * len(second) + two for one, two in found]) < 75
    assert _distance(second, [two for _, two in found]) < 75


def _pairs(folder: Path) -> Any:
    """The chance of each pair of tokens to come next, shape (vocabulary, vocabulary)."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([_PROMPT])).logits[0, -1]
        first = (logits / _TEMPERATURE).softmax(dim=-1)
        longer = torch.tensor([[*_PROMPT, token] for token in range(len(first))])
        second = (model(longer).logits[:, -1] / _TEMPERATURE).softmax(dim=-1)
    return (first[:, None] * second).double().numpy()


def _distance(chances: Any, found: list[int], num_bins: int = 20) -> float:
    """Chi-square over bins of about equal chance, likeliest outcomes first."""
    likeliest = chances.argsort()[::-1]
    below = chances[likeliest].cumsum() - chances[likeliest] / 2
    bin_of = {int(one): int(share * num_bins) for one, share in zip(likeliest, below, strict=True)}
    expected, seen = [0.0] * num_bins, [0] * num_bins
    for outcome, chance in enumerate(chances):
        expected[bin_of[outcome]] += len(found) * float(chance)
    for outcome in found:
        seen[bin_of[outcome]] += 1
    return sum((got - wanted) ** 2 / wanted for got, wanted in zip(seen, expected, strict=True))
