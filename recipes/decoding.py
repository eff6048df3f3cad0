"""Jacobi decoding and perplexity by transformers alone: for machines without the engine.

The guesses are those of the server's own proposer; only the clock is not the server's, so nothing
here is timed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from headstart.recipes.prompts import batches
from headstart.recipes.samples import Answer
from headstart.stages.drafting import Draft, Verdict
from headstart.stages.jacobi import SAID_GRADE, JacobiBlock

__all__ = ["Decoded", "jacobi_answers", "losses"]


@dataclass(slots=True)
class Decoded:
    """One answer, and how many forward passes it took, that over the prompt included."""

    answer: list[int] = field(default_factory=list)
    steps: int = 0
    said: int = 0
    """Accepted tokens of drafts that began with what had been said before."""


def jacobi_answers(
    model: Any,
    prompts: Sequence[list[int]],
    ends: frozenset[int],
    *,
    max_tokens: int,
    block_tokens: int,
) -> list[Decoded]:
    """Answer greedily, a block of guesses a step; the answers are those of plain decoding."""
    decoded = [Decoded() for _ in prompts]
    blocks = [JacobiBlock(prompt, block_tokens) for prompt in prompts]
    active = list(range(len(prompts)))
    while active:
        drafts: dict[int, Draft] = {}
        for number in active:
            room = max_tokens - len(decoded[number].answer) - 1
            draft = blocks[number].draft(room) if decoded[number].answer else None
            drafts[number] = draft or Draft(())
        rows = [[*prompts[n], *decoded[n].answer, *drafts[n].tokens] for n in active]
        said = _argmax(model, rows, [len(drafts[number].tokens) + 1 for number in active])
        for number, predicted in zip(active, said, strict=True):
            draft = drafts[number]
            verdict = _verdict(draft.tokens, predicted)
            blocks[number].observe(verdict)
            one = decoded[number]
            one.steps += 1
            one.said += verdict.num_accepted if draft.grade == SAID_GRADE else 0
            for token in verdict.tokens:
                one.answer.append(token)
                if token in ends:
                    break
        active = [
            number
            for number in active
            if len(decoded[number].answer) < max_tokens and decoded[number].answer[-1] not in ends
        ]
    return decoded


def _verdict(drafted: Sequence[int], predicted: list[int]) -> Verdict:
    accepted = 0
    while accepted < len(drafted) and drafted[accepted] == predicted[accepted]:
        accepted += 1
    return Verdict(predicted[: accepted + 1], drafted, predicted)


def _argmax(model: Any, rows: list[list[int]], nums: list[int]) -> list[list[int]]:
    """Return the likeliest next token behind each of the last tokens of each row."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=model.device)
    with torch.inference_mode():
        # What fills a row up stands behind it: causal attention never sees it.
        best = model(input_ids=ids, use_cache=False).logits.argmax(dim=-1).tolist()
    return [
        found[len(row) - num : len(row)] for found, row, num in zip(best, rows, nums, strict=True)
    ]


def losses(
    model: Any, answers: Sequence[Answer], batch: int
) -> Iterator[list[tuple[int, float, int]]]:
    """Yield a model's next-token loss on answers that may be another's, a batch at a time.

    Yields:
        The prompt's id, the sum over the answer's tokens in nats, and how many these are.
    """
    for some in batches(sorted(answers, key=lambda each: len(each.prompt + each.answer)), batch):
        width = max(len(each.prompt) + len(each.answer) for each in some)
        rows = [each.prompt + each.answer for each in some]
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=model.device)
        labels = ids.clone()
        for place, each in enumerate(some):
            labels[place, : len(each.prompt)] = -100
            labels[place, len(rows[place]) :] = -100
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        by_token = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none"
        )
        sums, nums = by_token.sum(dim=1).tolist(), (labels[:, 1:] != -100).sum(dim=1).tolist()
        yield [(each.id, *pair) for each, *pair in zip(some, sums, nums, strict=True)]
