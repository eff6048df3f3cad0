"""A model's answers to many prompts, by the serving engine or by transformers alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.recipes.models import Chat, device_of, load
from headstart.recipes.prompts import batches
from headstart.recipes.samples import Answer, Lines

__all__ = ["ENGINES", "Question", "answer_all", "answered", "greedy"]

ENGINES = ("auto", "vllm", "transformers")


_NOTED = 8
"""Batches of an engine's answers after which these are on disk."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and how an answer to it is drawn."""

    prompt: list[int]
    temperature: float = 0.0
    seed: int | None = 0
    """None draws anew each time."""


class _How(Protocol):
    @property
    def engine(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...


def answer_all(
    folder: Path, chat: Chat, asked: Mapping[int, Question], path: Path, how: _How
) -> None:
    """Append to a file the answers that it lacks.

    Args:
        asked: Prompts by number.
    """
    answers = Lines(path)
    known = {row["id"] for row in answers}
    # Prompts of like length waste little padding.
    order = sorted(asked.keys() - known, key=lambda number: (len(asked[number].prompt), number))
    if not order:
        return
    with tqdm(total=len(order), desc="answers", unit="prompt") as bar:
        for numbers, found in _answered(folder, chat, asked, order, how):
            answers.add(
                [
                    Answer(
                        number,
                        asked[number].prompt,
                        tokens,
                        bool(tokens) and tokens[-1] in chat.ends,
                    )
                    for number, tokens in zip(numbers, found, strict=True)
                ]
            )
            bar.update(len(numbers))


def _answered(
    folder: Path, chat: Chat, asked: Mapping[int, Question], order: Sequence[int], how: _How
) -> Iterator[tuple[Sequence[int], list[list[int]]]]:
    if how.engine == "vllm" or (how.engine == "auto" and find_spec("vllm")):
        from headstart.recipes.engine import Engine

        longest = max(len(each.prompt) for each in asked.values()) + how.max_tokens
        with Engine(folder, dtype=how.dtype, max_model_len=longest) as engine:
            # Noted some at a time: meanwhile a long answer holds one place, and not all of them.
            for numbers in batches(order, _NOTED * how.batch):
                chosen = [asked[number] for number in numbers]
                done = engine.answer(chosen, how.max_tokens, at_once=how.batch)
                yield numbers, done.answers
        return
    model = load(folder, device_of(how.device), how.dtype).eval()
    for numbers in batches(order, how.batch):
        chosen = [asked[number] for number in numbers]
        yield numbers, answered(model, chat, chosen, how.max_tokens)


def greedy(
    model: Any, chat: Chat, prompts: Sequence[list[int]], max_tokens: int
) -> list[list[int]]:
    """Answer prompts side by side, each up to its end or `max_tokens`."""
    return answered(model, chat, [Question(prompt) for prompt in prompts], max_tokens)


def answered(model: Any, chat: Chat, asked: Sequence[Question], max_tokens: int) -> list[list[int]]:
    """Answer prompts side by side, each at its temperature.

    A draw depends on the answer's seed alone, and not on what is answered beside it.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    prompts = [each.prompt for each in asked]
    width = max(map(len, prompts))
    pad = min(chat.ends)
    ids = torch.tensor([[pad] * (width - len(each)) + each for each in prompts])
    seen = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts])
    how = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=max_tokens,
        eos_token_id=sorted(chat.ends),
        pad_token_id=pad,
    )
    draws = [_Draws(asked)] if any(each.temperature for each in asked) else []
    # What `how` leaves open is taken from the model's own, such as a penalty on repetition.
    own, model.generation_config = model.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        with torch.inference_mode():
            said = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=seen.to(model.device),
                generation_config=how,
                logits_processor=LogitsProcessorList(draws),
            )
    finally:
        model.generation_config = own
    return [_until_end(row, chat.ends) for row in said[:, width:].tolist()]


class _Draws:
    """Makes the likeliest token a drawn one: Gumbel's noise, times the temperature."""

    def __init__(self, asked: Sequence[Question]) -> None:
        self._temperatures = [each.temperature for each in asked]
        self._randoms = [np.random.default_rng(each.seed) for each in asked]

    def __call__(self, _: Any, scores: Any) -> Any:
        import torch

        noise = np.stack(
            [
                temperature * random.gumbel(size=scores.shape[-1])
                for temperature, random in zip(self._temperatures, self._randoms, strict=True)
            ]
        )
        return scores.float() + torch.from_numpy(noise).to(scores.device, torch.float32)


def _until_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    for index, token in enumerate(tokens):
        if token in ends:
            return tokens[: index + 1]
    return tokens
