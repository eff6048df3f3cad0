"""Random arrivals, aborts and preemptions on a tiny random model, against a reference decoder.

The model is so small that thousands of engine steps take seconds, and the KV cache so small that
requests are preempted all the time. The reference decodes one token after another without vLLM.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headstart.cluster.stream import Stream
from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from headstart.stages.ngram_table import build
from headstart.stages.speculation_counts import SpeculationCounts
from headstart.stages.wish import wish_arguments
from tests.contract.asking import COMPLETIONS, Subject
from tests.contract.conftest import ENGINE, started_vllm
from tests.contract.sampling import NUM_SAMPLES, check_sampling
from tests.support.streams import body, finished, stream_table
from tests.support.waiting import eventually, soon

pytestmark = [pytest.mark.anyio, *ENGINE]

Check = Callable[[list[int], list[int]], float]
Arguments = Callable[[int], dict[str, str]]
"""Of the request with this number, for the worker."""

AT_ONCE = 10
TIE = 1e-5
"""Between logits of float32, which two programs sum in different orders."""
MODES = ("auto", "copy", "jacobi", "drafter", "off")
HEAVY = (pytest.mark.heavy, pytest.mark.timeout(1400))

DOUBLES = Path(__file__).parents[1] / "support" / "doubles"
FAULTS = ("raising", "negative", "vocabulary", "many")
BROKEN = "broken"
"""Extra argument of a request whose logits are NaN wherever something is drafted."""


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


@asynccontextmanager
async def started_tiny(
    folder: Path,
    preemptions: Preemptions,
    speculation: SpeculationSettings,
    drafter: str = "headstart.cluster.parallel_drafter.ParallelDrafter",
) -> AsyncIterator[Subject]:
    from headstart.cluster import launch_adapter

    model = ModelSettings(
        name="tiny",
        source=str(folder),
        dtype="float32",
        max_model_len=256,
        speculation=speculation,
        engine_args={
            "enforce_eager": True,
            "num_gpu_blocks_override": 24,
            "max_num_seqs": AT_ONCE,
            "max_num_batched_tokens": 48,  # prompts come in chunks
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch_adapter, "DRAFTER", drafter)
        for name, value in launch_adapter.engine_environment(model, cores=None).items():
            patch.setenv(name, value)
        loggers = (preemptions.factory,)
        async with started_vllm(model, folder, stream_table(), loggers) as subject:
            yield subject


@pytest.fixture(scope="module")
async def tiny(
    vllm_model: ModelSettings, tiny_model: Path, preemptions: Preemptions
) -> AsyncIterator[Subject]:
    """Whatever is on offer is drafted, drafters fail, and logits may break."""

    speculation = SpeculationSettings(is_adaptive=False, block_tokens=6, max_tokens=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOUBLES)
        faulty = "faulty_drafter.FaultyDrafter"
        async with started_tiny(tiny_model, preemptions, speculation, faulty) as subject:
            yield subject


@pytest.fixture(scope="module")
async def adaptive(
    vllm_model: ModelSettings,
    tiny_model: Path,
    preemptions: Preemptions,
    reference: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Subject]:
    """As it is served: the controller decides, and a table of the model's own answers drafts."""
    chance = random.Random(5)
    answers = [greedy(reference, [chance.randrange(2, 250) for _ in range(20)]) for _ in range(8)]
    how: Any = {"vocabulary": 260, "tokenizer": tokenizer_hash(tiny_model)}
    path = tmp_path_factory.mktemp("tables") / "de.table"
    path.write_bytes(build(answers, language="de", min_count=1, **how).encode())
    speculation = SpeculationSettings(
        default="auto", block_tokens=6, max_tokens=8, tables={"de": path}
    )
    async with started_tiny(tiny_model, preemptions, speculation) as subject:
        yield subject


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


def greedy(model: Any, prompt: list[int], num_tokens: int = 60) -> list[int]:
    import torch

    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(num_tokens):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.fixture(scope="module")
def regret(reference: Any) -> Check:
    """By how much a token of an answer is less likely than the likeliest: transformers' logits."""
    import torch

    def check(prompt: list[int], answer: list[int]) -> float:
        with torch.inference_mode():
            logits = reference(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        chosen = logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
        return float((logits.max(dim=-1).values - chosen).max())

    return check


STEPS = [500, pytest.param(10_000, marks=HEAVY)]


@pytest.mark.parametrize("num_steps", STEPS)
async def test_random_schedule_gives_the_reference_decoder(
    tiny: Subject,
    regret: Check,
    preemptions: Preemptions,
    num_steps: int,
    record_property: Callable[[str, object], None],
) -> None:
    def failing(number: int) -> dict[str, str]:
        mode, turn = MODES[number % len(MODES)], number // len(MODES)
        arguments = {"headstart_speculation": mode}
        if mode == "drafter":
            arguments["headstart_language"] = FAULTS[turn % len(FAULTS)]
        elif mode != "off" and turn % 4 == 0:
            arguments[BROKEN] = "yes"
        return arguments

    found = await run_schedule(tiny, regret, preemptions, num_steps, failing)
    record_property("schedule", found)

    faults = {"raised", "out_of_vocabulary", "too_many", "not_a_number"}
    assert set(found["fallbacks"]) >= faults
    assert found["accepted"]["copy"] > found["answers"]
    assert found["drafted"].keys() >= {"copy", "jacobi"}


@pytest.mark.parametrize("num_steps", STEPS)
async def test_random_schedule_of_the_controller_gives_the_reference_decoder(
    adaptive: Subject,
    regret: Check,
    preemptions: Preemptions,
    num_steps: int,
    record_property: Callable[[str, object], None],
) -> None:
    def asking(number: int) -> dict[str, str]:
        arguments = {"headstart_language": ("de", "fr")[number // 7 % 2]}
        if number % 6 < len(MODES):
            arguments["headstart_speculation"] = MODES[number % 6]
        return arguments

    def has_drafted(counts: SpeculationCounts) -> bool:
        # When something pays is the controller's own choice, made from the clock.
        return "drafter" in counts.sources and sum(counts.sources["drafter"].drafted) > 0

    found = await run_schedule(adaptive, regret, preemptions, num_steps, asking, has_drafted)
    record_property("schedule", found)

    assert set(found["fallbacks"]) <= {"no_drafter"}
    assert found["drafted"].get("drafter", 0) > 0
    assert found["decisions"].get("draft", 0) + found["decisions"].get("probe", 0) > 0
    assert sum(found["decisions"].values()) == found["steps"]


async def run_schedule(
    tiny: Subject,
    regret: Check,
    preemptions: Preemptions,
    num_steps: int,
    arguments: Arguments,
    is_enough: Callable[[SpeculationCounts], bool] = lambda _: True,
) -> dict[str, Any]:
    """Ask at random until the engine has made so many steps, and say what became of it.

    Args:
        is_enough: Of what was counted in these steps; if it is not, up to eight times as many.
    """
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
        xargs = arguments(number)
        num_tokens, is_aborted = chance.randint(1, 120), chance.random() < 0.1
        if xargs.get("headstart_language") in FAULTS:  # it shall fail
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

    def is_over() -> bool:
        found = counts_of(tiny).since(before)
        return found.steps >= num_steps and (is_enough(found) or found.steps >= 8 * num_steps)

    async def client() -> None:
        while not is_over():
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
        "decisions": counts.decisions,
    }

    assert wrong == []
    assert ties <= 2 + num_checked / 250
    assert found["preempted"] > num_checked / 20
    assert num_aborted > 2
    return found


async def test_sampling_draws_from_the_models_distribution(tiny: Subject, tiny_model: Path) -> None:
    """The second of two tokens is drafted in every answer."""
    num_drafted = 0

    def ended(stream: Stream) -> None:
        nonlocal num_drafted
        assert stream.end is not None
        assert stream.end.speculated is not None
        num_drafted += stream.end.speculated.steps > 0

    wish = wish_arguments("jacobi")
    await check_sampling(tiny, tiny_model, AT_ONCE, ended, vllm_xargs=wish)

    assert num_drafted == NUM_SAMPLES


def counts_of(subject: Subject) -> SpeculationCounts:
    counts = subject.engine.speculation()
    assert counts is not None
    return counts
