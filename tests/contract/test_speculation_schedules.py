"""Random arrivals, aborts and preemptions on a tiny random model, against a reference decoder.

The model is so small that thousands of engine steps take seconds, and the KV cache so small that
requests are preempted all the time. The reference decodes one token after another without vLLM.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from headstart.stages.speculation_counts import SpeculationCounts
from tests.contract.asking import COMPLETIONS, Subject
from tests.contract.conftest import ENGINE, started_vllm
from tests.support.streams import body, finished, stream_table
from tests.support.waiting import eventually, soon

pytestmark = [pytest.mark.anyio, *ENGINE]

Check = Callable[[list[int], list[int]], bool]

AT_ONCE = 10
MODES = ("auto", "copy", "jacobi", "drafter", "off")
HEAVY = (pytest.mark.heavy, pytest.mark.timeout(900))
"""About 10,000 steps."""

DOUBLES = Path(__file__).parents[1] / "support" / "doubles"
FAULTS = ("raising", "negative", "vocabulary", "many")


class Preemptions:
    """Counts them, as vLLM tells its stat loggers."""

    def __init__(self) -> None:
        self.count = 0

    def factory(self, _config: Any, _index: int = 0) -> Any:
        from vllm.v1.metrics.loggers import StatLoggerBase

        counter = self

        class Logger(StatLoggerBase):
            def __init__(self) -> None:
                pass

            def record(
                self,
                scheduler_stats: Any,
                iteration_stats: Any,
                mm_cache_stats: Any = None,
                engine_idx: int = 0,
            ) -> None:
                if iteration_stats is not None:
                    counter.count += iteration_stats.num_preempted_reqs

            def log_engine_initialized(self) -> None:
                pass

        return Logger()


@pytest.fixture(scope="module")
def preemptions() -> Preemptions:
    return Preemptions()


@pytest.fixture(scope="module")
async def tiny(
    vllm_model: ModelSettings, tiny_model: Path, preemptions: Preemptions
) -> AsyncIterator[Subject]:
    from headstart.cluster import adapter

    model = ModelSettings(
        name="tiny",
        source=str(tiny_model),
        dtype="float32",
        max_model_len=256,
        speculation=SpeculationSettings(is_adaptive=False, block_tokens=6, max_tokens=8),
        engine_args={
            "enforce_eager": True,
            "num_gpu_blocks_override": 24,
            "max_num_seqs": AT_ONCE,
            "max_num_batched_tokens": 48,  # prompts come in chunks
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOUBLES)
        patch.setattr(adapter, "DRAFTER", "faulty_drafter.FaultyDrafter")
        for name, value in adapter.engine_environment(model, cores=None).items():
            patch.setenv(name, value)
        loggers = (preemptions.factory,)
        async with started_vllm(model, tiny_model, stream_table(), loggers) as subject:
            yield subject


@pytest.fixture(scope="module")
def is_greedy(tiny_model: Path) -> Check:
    """Whether each token of an answer is the likeliest one after all before it: transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)

    def check(prompt: list[int], answer: list[int]) -> bool:
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0]
        best = logits.argmax(dim=-1).tolist()
        return bool(best[len(prompt) - 1 : -1] == answer)

    return check


@pytest.mark.parametrize("num_requests", [60, pytest.param(1200, marks=HEAVY)])
async def test_random_schedule_gives_the_reference_decoder(
    tiny: Subject, is_greedy: Check, preemptions: Preemptions, num_requests: int
) -> None:
    chance = random.Random(3)
    places = asyncio.Semaphore(AT_ONCE + 4)
    texts: list[list[int]] = []
    wrong: list[Any] = []
    num_aborted = 0

    async def one(number: int) -> None:
        nonlocal num_aborted
        if texts and chance.random() < 0.3:
            prompt = chance.choice(texts)  # a hit in the prefix cache
        else:
            prompt = [chance.randrange(2, 250) for _ in range(chance.randint(2, 90))]
            texts.append(prompt)
        num_tokens, mode = chance.randint(1, 120), MODES[number % len(MODES)]
        is_aborted = chance.random() < 0.1
        xargs = {"headstart_speculation": mode}
        if mode == "drafter":
            xargs["headstart_language"] = FAULTS[number // len(MODES) % len(FAULTS)]
            num_tokens, is_aborted = num_tokens + 10, False
        async with places:
            stream = tiny.serve(
                COMPLETIONS,
                prompt=prompt,
                max_tokens=num_tokens,
                ignore_eos=True,
                return_token_ids=True,
                vllm_xargs=xargs,
            )
            if is_aborted:
                await eventually(lambda: tiny.engine.load().running > 0 or stream.end is not None)
                await tiny.engine.abort(stream.id)
                await soon(stream.finished())
                num_aborted += 1
                return
            await soon(finished(stream), 120)
        tokens = body(stream)["choices"][0]["token_ids"]
        if len(tokens) != num_tokens or not is_greedy(prompt, tokens):
            wrong.append((number, mode, xargs, len(prompt), num_tokens))

    async with asyncio.TaskGroup() as group:
        for number in range(num_requests):
            group.create_task(one(number))

    assert wrong == []
    assert preemptions.count > num_requests / 20
    assert num_aborted > 2
    await eventually(lambda: tiny.engine.load().running == 0 and has_counted(tiny))
    counts = counts_of(tiny)
    assert set(counts.fallbacks) >= {"raised", "out_of_vocabulary", "too_many"}
    assert sum(counts.sources["copy"].accepted) > num_requests
    assert "jacobi" in counts.sources


def counts_of(subject: Subject) -> SpeculationCounts:
    counts = subject.engine.speculation()
    assert counts is not None
    return counts


def has_counted(subject: Subject) -> bool:
    return counts_of(subject).tokens > 0
