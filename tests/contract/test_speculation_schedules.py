"""Random arrivals, aborts and preemptions on a tiny random model, against a reference decoder.

The model is so small that thousands of engine steps take seconds, and the KV cache so small that
requests are preempted all the time. The reference decodes one token after another without vLLM.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from headstart.cluster.stream import Stream
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from headstart.stages.speculation_counts import SpeculationCounts
from tests.contract.asking import COMPLETIONS, Subject
from tests.contract.conftest import ENGINE, started_vllm
from tests.contract.sampling import NUM_SAMPLES, check_sampling
from tests.support.streams import body, finished, stream_table
from tests.support.waiting import eventually, soon

pytestmark = [pytest.mark.anyio, *ENGINE]

Check = Callable[[list[int], list[int]], float]

AT_ONCE = 10
TIE = 1e-5
"""Between logits of float32, which two programs sum in different orders."""
MODES = ("auto", "copy", "jacobi", "drafter", "off")
HEAVY = (pytest.mark.heavy, pytest.mark.timeout(1400))

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
def regret(tiny_model: Path) -> Check:
    """By how much a token of an answer is less likely than the likeliest: transformers' logits."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)

    def check(prompt: list[int], answer: list[int]) -> float:
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        chosen = logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
        return float((logits.max(dim=-1).values - chosen).max())

    return check


@pytest.mark.parametrize("num_steps", [500, pytest.param(10_000, marks=HEAVY)])
async def test_random_schedule_gives_the_reference_decoder(
    tiny: Subject,
    regret: Check,
    preemptions: Preemptions,
    num_steps: int,
    record_property: Callable[[str, object], None],
) -> None:
    chance = random.Random(3)
    texts: list[list[int]] = []
    wrong: list[Any] = []
    num_aborted = num_checked = ties = 0
    before = counts_of(tiny)
    preempted_before = preemptions.count

    async def one(number: int) -> None:
        nonlocal num_aborted, num_checked, ties
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
        num_checked += 1
        behind = regret(prompt, tokens)
        ties += 0 < behind <= TIE
        if len(tokens) != num_tokens or behind > TIE:
            wrong.append((number, xargs, len(prompt), num_tokens, len(tokens), behind))

    numbers = itertools.count()

    async def client() -> None:
        while counts_of(tiny).steps - before.steps < num_steps:
            await one(next(numbers))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE + 4):
            group.create_task(client())
    await eventually(lambda: tiny.engine.load().running == 0)
    counts = counts_of(tiny).since(before)
    found: dict[str, Any] = {
        "steps": counts.steps,
        "answers": num_checked,
        "tokens": counts.tokens,
        "ties": ties,
        "aborted": num_aborted,
        "preempted": preemptions.count - preempted_before,
        "drafted": {name: sum(each.drafted) for name, each in counts.sources.items()},
        "accepted": {name: sum(each.accepted) for name, each in counts.sources.items()},
        "fallbacks": counts.fallbacks,
    }
    record_property("schedule", found)

    assert wrong == []
    assert ties <= 2 + num_checked / 250
    assert found["preempted"] > num_checked / 20
    assert num_aborted > 2
    assert set(counts.fallbacks) >= {"raised", "out_of_vocabulary", "too_many"}
    assert found["accepted"]["copy"] > num_checked
    assert counts.sources.keys() >= {"copy", "jacobi"}


async def test_sampling_draws_from_the_models_distribution(tiny: Subject, tiny_model: Path) -> None:
    """The second of two tokens is drafted in every answer."""
    num_drafted = 0

    def ended(stream: Stream) -> None:
        nonlocal num_drafted
        assert stream.end is not None
        assert stream.end.speculated is not None
        num_drafted += stream.end.speculated.steps > 0

    mode = {"vllm_xargs": {"headstart_speculation": "jacobi"}}
    await check_sampling(tiny, tiny_model, AT_ONCE, ended, **mode)

    assert num_drafted == NUM_SAMPLES


def counts_of(subject: Subject) -> SpeculationCounts:
    counts = subject.engine.speculation()
    assert counts is not None
    return counts
