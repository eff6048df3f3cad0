"""Whether what an engine samples is what its model says: chi-square on two tokens of answers."""

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.cluster.stream import Stream
from tests.contract.asking import COMPLETIONS, Subject
from tests.support.streams import body, finished
from tests.support.waiting import soon

__all__ = ["NUM_SAMPLES", "Asking", "check_sampling"]

NUM_SAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Asking:
    """What the samples are answers to."""

    prompt: tuple[int, ...] = (5, 6, 7, 8, 5, 6, 9)
    temperature: float = 0.3
    top_k: int = 0
    """Only so many likeliest tokens; 0 is all."""
    num_samples: int = NUM_SAMPLES


async def check_sampling(
    subject: Subject,
    model: Path,
    at_once: int,
    ended: Callable[[Stream], None],
    asking: Asking | None = None,
    **fields: Any,
) -> None:
    """Sample, and compare with the chances that transformers computes.

    Args:
        model: Folder of the model that is served.
        at_once: How many samples are asked for side by side.
        ended: Told of every answer's stream.
        fields: Of each request besides.
    """
    asking = asking or Asking()
    places = asyncio.Semaphore(at_once)

    async def sample() -> tuple[int, int]:
        async with places:
            stream = subject.serve(
                COMPLETIONS,
                prompt=asking.prompt,
                max_tokens=3,
                temperature=asking.temperature,
                top_k=asking.top_k,
                ignore_eos=True,
                return_token_ids=True,
                **fields,
            )
            await soon(finished(stream), 120)
        ended(stream)
        first, second, _ = body(stream)["choices"][0]["token_ids"]
        return first, second

    found = await asyncio.gather(*(sample() for _ in range(asking.num_samples)))

    pairs = _pairs(model, asking)
    second: dict[int, float] = defaultdict(float)
    for (_, two), chance in pairs.items():
        second[two] += chance
    # One in a hundred million by chance, at 19 degrees of freedom.
    assert _distance(pairs, found) < 75
    assert _distance(second, [two for _, two in found]) < 75


def _pairs(folder: Path, asking: Asking) -> dict[tuple[int, int], float]:
    """The chance of each pair of tokens to come next, where there is one."""
    import torch
    from transformers import AutoModelForCausalLM

    def chances(prompts: list[list[int]]) -> Any:
        logits = model(torch.tensor(prompts)).logits[:, -1] / asking.temperature
        if asking.top_k:
            least = logits.topk(asking.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < least, -math.inf)
        return logits.softmax(dim=-1).double()

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        first = chances([list(asking.prompt)])[0]
        likely = first.nonzero()[:, 0].tolist()
        second = chances([[*asking.prompt, token] for token in likely])
    return {
        (one, two): float(first[one] * row[two])
        for one, row in zip(likely, second, strict=True)
        for two in row.nonzero()[:, 0].tolist()
    }


def _distance(chances: Mapping[Any, float], found: Sequence[Any], num_bins: int = 20) -> float:
    """Chi-square over bins of about equal chance, likeliest outcomes first."""
    expected: dict[int, float] = defaultdict(float)
    seen: Counter[int] = Counter()
    bin_of: dict[Any, int] = {}
    below = 0.0
    for outcome, chance in sorted(chances.items(), key=lambda pair: -pair[1]):
        bin_of[outcome] = int((below + chance / 2) * num_bins)
        expected[bin_of[outcome]] += len(found) * chance
        below += chance
    for outcome in found:
        seen[bin_of[outcome]] += 1
    return sum((seen[each] - wanted) ** 2 / wanted for each, wanted in expected.items())
