"""A model's greedy answers to many prompts, by the serving engine or by transformers alone."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.recipes.models import Chat, device_of, load
from headstart.recipes.prompts import batches
from headstart.recipes.samples import Answer, Lines

__all__ = ["ENGINES", "answer_all", "greedy"]

ENGINES = ("auto", "vllm", "transformers")


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
    folder: Path, chat: Chat, asked: Mapping[int, list[int]], path: Path, how: _How
) -> None:
    """Append to a file the answers that it lacks.

    Args:
        asked: Prompts by number.
    """
    answers = Lines(path)
    known = {row["id"] for row in answers}
    # Prompts of like length waste little padding.
    order = sorted(asked.keys() - known, key=lambda number: (len(asked[number]), number))
    if not order:
        return
    with tqdm(total=len(order), desc="answers", unit="prompt") as bar:
        for numbers, found in _answered(folder, chat, asked, order, how):
            answers.add(
                [
                    Answer(number, asked[number], tokens, bool(tokens) and tokens[-1] in chat.ends)
                    for number, tokens in zip(numbers, found, strict=True)
                ]
            )
            bar.update(len(numbers))


def _answered(
    folder: Path, chat: Chat, asked: Mapping[int, list[int]], order: Sequence[int], how: _How
) -> Iterator[tuple[Sequence[int], list[list[int]]]]:
    if how.engine == "vllm" or (how.engine == "auto" and find_spec("vllm")):
        from headstart.recipes.engine import Engine

        longest = max(map(len, asked.values())) + how.max_tokens
        with Engine(folder, dtype=how.dtype, max_model_len=longest) as engine:
            for numbers in batches(order, how.batch):
                prompts = [asked[number] for number in numbers]
                yield numbers, engine.answer(prompts, how.max_tokens).answers
        return
    model = load(folder, device_of(how.device), how.dtype).eval()
    for numbers in batches(order, how.batch):
        yield numbers, greedy(model, chat, [asked[number] for number in numbers], how.max_tokens)


def greedy(
    model: Any, chat: Chat, prompts: Sequence[list[int]], max_tokens: int
) -> list[list[int]]:
    """Answer prompts side by side, each up to its end or `max_tokens`."""
    import torch
    from transformers import GenerationConfig

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
    with torch.inference_mode():
        said = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=seen.to(model.device),
            generation_config=how,
        )
    return [_until_end(row, chat.ends) for row in said[:, width:].tolist()]


def _until_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    for index, token in enumerate(tokens):
        if token in ends:
            return tokens[: index + 1]
    return tokens
