"""Prefix-cache blocks of 16 tokens on CPU, beside vLLM's own of 32."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from tests.contract.asking import COMPLETIONS, Subject, saying
from tests.contract.conftest import ENGINE, started_vllm
from tests.support.lora import write_lora
from tests.support.streams import body, finished, stream_table
from tests.support.waiting import soon

pytestmark = [pytest.mark.anyio, *ENGINE]

DOUBLES = Path(__file__).parents[1] / "support" / "doubles"
PROMPTS = (
    "Name three colours.",
    "Repeat after me: " + "the cat sat on the mat, " * 20,
    "What is the capital of France, and which river does it lie at?",
    " ".join(f"Line {number}: {number * number}." for number in range(90)),
)
NUM_TOKENS = 40


@asynccontextmanager
async def started_with(model: ModelSettings, path: Path, **fields: Any) -> AsyncIterator[Subject]:
    """Start an engine with these settings in place of the model's."""
    from headstart.cluster import launch_adapter

    model = model.model_copy(update=fields)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in launch_adapter.engine_environment(model, cores=None).items():
            patch.setenv(name, value)
        patch.syspath_prepend(DOUBLES)
        async with started_vllm(model, path, stream_table()) as subject:
            yield subject


@pytest.fixture(scope="module")
async def answers(vllm: Subject) -> list[list[int]]:
    """What vLLM says in blocks of 32."""
    assert vllm.info.block_size == 32
    return await answers_of(vllm)


async def answers_of(subject: Subject, **fields: Any) -> list[list[int]]:
    """Ask everything at once, so that rows of different lengths share a step."""
    asked = {"max_tokens": NUM_TOKENS, "ignore_eos": True, "return_token_ids": True} | fields
    streams = [subject.serve(messages=saying(text), **asked) for text in PROMPTS]
    return [body(await finished(one))["choices"][0]["token_ids"] for one in streams]


async def cached(subject: Subject, num_tokens: int) -> int:
    """How much of a prompt of new tokens is found again."""
    prompt = list(range(1000 + num_tokens, 1000 + 2 * num_tokens))
    first, again = [
        await finished(subject.serve(COMPLETIONS, prompt=prompt, max_tokens=1)) for _ in range(2)
    ]
    assert first.end is not None
    assert again.end is not None
    assert first.end.cached_tokens == 0
    return again.end.cached_tokens


@pytest.fixture(scope="module")
async def small(vllm_model: ModelSettings, vllm_model_path: Path) -> AsyncIterator[Subject]:
    async with started_with(vllm_model, vllm_model_path, block_size=16) as subject:
        yield subject


async def test_answers_are_those_of_larger_blocks(small: Subject, answers: list[list[int]]) -> None:
    assert small.info.block_size == 16
    assert await answers_of(small) == answers
    # And now from the prefix cache.
    assert await answers_of(small) == answers


async def test_less_than_a_larger_block_is_found_again(small: Subject, vllm: Subject) -> None:
    assert [await cached(vllm, length) for length in (17, 31, 33, 50)] == [0, 0, 32, 32]
    assert [await cached(small, length) for length in (17, 31, 33, 50)] == [16, 16, 32, 48]


async def test_half_a_larger_block_is_warmed(small: Subject) -> None:
    tokens = list(range(5000, 5050))

    assert (await soon(small.engine.warm(tokens[:16]))).num_cached == 0
    assert (await soon(small.engine.warm(tokens))).num_cached == 16
    assert (await soon(small.engine.warm(tokens))).num_cached == 48


async def test_drafted_answers_are_those_of_larger_blocks(
    vllm_model: ModelSettings, vllm_model_path: Path, answers: list[list[int]]
) -> None:
    fields = {"block_size": 16, "speculation": SpeculationSettings(is_adaptive=False)}
    async with started_with(vllm_model, vllm_model_path, **fields) as subject:
        assert subject.info.block_size == 16
        for mode in ("copy", "jacobi", "off"):
            drafted = {"vllm_xargs": {"headstart_speculation": mode}}
            assert await answers_of(subject, **drafted) == answers, mode
        assert await cached(subject, 17) == 16


@pytest.mark.heavy
async def test_adapters_say_what_they_do_in_larger_blocks(
    vllm_model: ModelSettings, vllm_model_path: Path, tmp_path: Path
) -> None:
    adapters = {"other": str(write_lora(tmp_path / "other", vllm_model_path))}
    said = {}
    for size in (16, 32):
        fields = {"block_size": size, "adapters": adapters}
        async with started_with(vllm_model, vllm_model_path, **fields) as subject:
            assert subject.info.block_size == size
            said[size] = [await answers_of(subject, model=name) for name in ("smol", "other")]

    assert said[16] == said[32]
    assert said[16][0] != said[16][1]


async def test_blocks_are_larger_where_the_kernel_takes_no_small_ones(
    vllm_model: ModelSettings,
    vllm_model_path: Path,
    answers: list[list[int]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    engine_args = vllm_model.engine_args | {"worker_cls": "amx_vllm.AmxWorker"}
    fields = {"block_size": 16, "engine_args": engine_args}
    async with started_with(vllm_model, vllm_model_path, **fields) as subject:
        assert subject.info.block_size == 32
        assert "the attention kernel amx takes multiples of 32" in capfd.readouterr().err
        assert await answers_of(subject) == answers
        assert [await cached(subject, length) for length in (31, 33)] == [0, 32]
