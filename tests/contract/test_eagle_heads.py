"""Pools in which an EAGLE head drafts: what vLLM is told, and what its CPU backend makes of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headstart.cluster import launch_adapter
from headstart.cluster.prepared_model import prepared
from headstart.configs.model_settings import ModelSettings
from tests.contract.asking import COMPLETIONS, Subject
from tests.contract.conftest import ENGINE, started_pool
from tests.contract.test_draft_model import AT_ONCE, NUM_TOKENS, PROMPTS, pool_of
from tests.support.eagle_heads import METHODS, head_of
from tests.support.streams import body, finished
from tests.support.waiting import soon

pytestmark = [pytest.mark.anyio, *ENGINE]


@pytest.fixture(scope="module", params=METHODS)
async def drafted(
    request: pytest.FixtureRequest,
    vllm_model: ModelSettings,
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Subject]:
    folder = tmp_path_factory.mktemp("heads")
    head = head_of(tiny_model, request.param, folder / request.param)
    pool, path = prepared(pool_of(tiny_model, head, request.param), folder)
    async with started_pool(pool, path) as subject:
        yield subject


async def test_answers_are_the_models_own(drafted: Subject, tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    for prompt in PROMPTS:
        fields = {"max_tokens": 40, "ignore_eos": True, "return_token_ids": True}
        stream = drafted.serve(COMPLETIONS, prompt=prompt, **fields)
        await soon(finished(stream), 60)
        answer = body(stream)["choices"][0]["token_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        assert logits.argmax(dim=-1).tolist() == answer
        assert stream.end is not None
        assert stream.end.speculated is not None
        assert stream.end.speculated.drafted >= stream.end.speculated.steps > 0


@pytest.mark.parametrize("method", METHODS)
def test_vllm_is_told_of_the_head(
    vllm_model: ModelSettings, tiny_model: Path, tmp_path: Path, method: str
) -> None:
    head = head_of(tiny_model, method, tmp_path / "head")

    args = launch_adapter.engine_arguments(pool_of(tiny_model, head, method), str(tiny_model))

    assert args.worker_cls == launch_adapter.DRAFT_MODEL_WORKER
    assert args.speculative_config == {
        "method": method,
        "model": str(head),
        "num_speculative_tokens": NUM_TOKENS,
        "num_speculative_tokens_per_batch_size": [
            [1, AT_ONCE - 2, NUM_TOKENS],
            [AT_ONCE - 1, AT_ONCE - 1, 1],
            [AT_ONCE, AT_ONCE, 0],
        ],
    }
