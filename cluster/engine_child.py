"""An engine in a process of its own, asked in lines of JSON: batches in, answers and times out.

For whoever measures decoding, or needs many answers, without HTTP and without a cluster. The
process wants the environment that a replica has (`launch_adapter.engine_environment`), and runs the
worker that a replica runs. The first line of standard input says what to load; each further one is
a batch, answered with one line.
"""

import asyncio
import os
import sys
import time
from typing import Any

import msgspec

from headstart.cluster import adapter, launch_adapter
from headstart.configs.model_settings import ModelSettings
from headstart.stages.speculation_counts import SpeculationCounts

__all__ = ["Asked", "Batch", "Done", "Wanted", "serve"]

_Answered = tuple[list[int], list[dict[int, float]], float, float]


class Wanted(msgspec.Struct, frozen=True):
    """What is to be loaded."""

    model: str
    """`ModelSettings` as JSON."""
    path: str
    drafter: str | None = None
    """Path of a drafter's class in place of ours."""


class Asked(msgspec.Struct, frozen=True):
    """One request."""

    prompt: str | list[int]
    """What a user says, or token ids."""
    arguments: dict[str, str] = {}
    """For the worker."""
    temperature: float = 0.0
    seed: int | None = None


class Batch(msgspec.Struct, frozen=True):
    """Requests that are asked for together."""

    asked: list[Asked]
    max_tokens: int
    ignore_eos: bool = False
    at_once: int | None = None
    """Most that are under way, the next one asked for as one ends; None is all of them."""
    num_best: int = 0
    """How many of the likeliest tokens are told at each place of an answer."""


class Done(msgspec.Struct, frozen=True):
    """What became of a batch."""

    prompts: list[list[int]]
    answers: list[list[int]]
    first_s: list[float]
    """Seconds to the first token of each."""
    last_s: list[float]
    """Seconds to the last."""
    counts: SpeculationCounts | None
    """Of the batch alone, where the engine speculates."""
    best: list[list[dict[int, float]]] = []
    """The likeliest ids at each place of each answer, with the logarithms of their chances."""
    preempted: int = 0
    """How often a request of the batch lost its place in the cache, and was computed anew."""

    @property
    def decode_s(self) -> list[float]:
        """Seconds from the first token of each to its last."""
        return [last - first for first, last in zip(self.first_s, self.last_s, strict=True)]


def serve() -> None:
    """Load, say an empty string or why not, and serve batches until standard input ends."""
    wanted = msgspec.json.decode(sys.stdin.readline(), type=Wanted)
    # Whoever prints, in the engine's own process too, prints to the log.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        asyncio.run(_serve(wanted, answers))


async def _serve(wanted: Wanted, answers: Any) -> None:
    from headstart.cluster.vllm_tap import TappedLLM

    def say(value: Any) -> None:
        answers.write(msgspec.json.encode(value).decode() + "\n")
        answers.flush()

    model = ModelSettings.model_validate_json(wanted.model)
    probe = adapter.LoadProbe(model.pool)
    arguments = launch_adapter.engine_arguments(model, wanted.path, wanted.drafter)
    llm = launch_adapter.build_llm(TappedLLM, arguments, [probe.factory])
    try:
        say("")
        before = SpeculationCounts()
        while line := await asyncio.to_thread(sys.stdin.readline):
            batch = msgspec.json.decode(line, type=Batch)
            preempted = probe.preempted
            done = await _answer(llm, batch)
            done = msgspec.structs.replace(done, preempted=probe.preempted - preempted)
            if model.speculation is not None:
                counts = (
                    await adapter.speculation_counts(llm)
                    if model.drafter is None
                    else probe.speculation()
                )
                done = msgspec.structs.replace(done, counts=counts.since(before))
                before = counts
            say(done)
    finally:
        llm.shutdown()


async def _answer(llm: Any, batch: Batch) -> Done:
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    tokenizer = llm.get_tokenizer()
    prompts = [_tokens(tokenizer, one.prompt) for one in batch.asked]
    places = asyncio.Semaphore(batch.at_once or max(1, len(prompts)))
    began = time.monotonic()

    async def one(number: int, asked: Asked) -> _Answered:
        async with places:
            return await answered(number, asked)

    async def answered(number: int, asked: Asked) -> _Answered:
        params = SamplingParams(
            temperature=asked.temperature,
            seed=asked.seed,
            max_tokens=batch.max_tokens,
            ignore_eos=batch.ignore_eos,
            logprobs=batch.num_best or None,
            extra_args=dict(asked.arguments),
        )
        first = 0.0
        answer: list[int] = []
        best: list[dict[int, float]] = []
        name = f"{began}-{number}"
        prompt = TokensPrompt(prompt_token_ids=prompts[number])
        async for output in llm.generate(prompt, params, name):
            first = first or time.monotonic() - began
            answer = list(output.outputs[0].token_ids)
            if output.finished and batch.num_best:
                best = [_likeliest(one, batch.num_best) for one in output.outputs[0].logprobs]
        return answer, best, first, time.monotonic() - began

    found = await asyncio.gather(*map(one, range(len(prompts)), batch.asked))
    answers, best, first_s, last_s = (list(column) for column in zip(*found, strict=True))
    return Done(prompts, answers, first_s, last_s, None, best)


def _likeliest(chances: Any, num: int) -> dict[int, float]:
    ranked = sorted(chances.items(), key=lambda pair: -pair[1].logprob)
    return {token: chance.logprob for token, chance in ranked[:num]}


def _tokens(tokenizer: Any, prompt: str | list[int]) -> list[int]:
    if not isinstance(prompt, str):
        return prompt
    messages = [{"role": "user", "content": prompt}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer.encode(rendered, add_special_tokens=False))
