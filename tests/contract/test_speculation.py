"""Several tokens a step, and the answer that one a step gives: on the real model, in float32.

A difference is allowed only where the plain run itself was undecided: the two likeliest tokens
within `TIE` of one another (docs/DESIGN says why a batch of another shape may then decide
otherwise). None of the answers here has shown one.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headstart.cluster.stream import Stream
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from tests.contract.asking import Subject, saying
from tests.contract.conftest import ENGINE, started_vllm
from tests.support.streams import body, finished, stream_table
from tests.support.waiting import soon

pytestmark = [pytest.mark.anyio, *ENGINE]

CODE = """def total(prices, tax):
    result = 0
    for price in prices:
        result = result + price
    return result * (1 + tax)
"""
PROMPTS = {
    "edit": f"Repeat this code and rename tax to rate:\n{CODE}",
    "quote": "Quote this sentence three times: The quick brown fox jumps over the lazy dog.",
    "free": "Tell me a short story about a lighthouse.",
    "german": "Erzähle mir etwas über Berlin.",
}
MODES = ("copy", "jacobi", "auto", "off")


@pytest.fixture(scope="module")
async def speculating(vllm_model: ModelSettings, vllm_model_path: Path) -> AsyncIterator[Subject]:
    """The same model with our worker, drafting whatever is on offer."""
    speculation = SpeculationSettings(is_adaptive=False, block_tokens=8)
    model = vllm_model.model_copy(update={"speculation": speculation})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_USE_V2_MODEL_RUNNER", "0")
        async with started_vllm(model, vllm_model_path, stream_table()) as subject:
            yield subject


def asked(subject: Subject, prompt: str, mode: str, **fields: Any) -> Stream:
    fields = {"max_tokens": 64, "return_token_ids": True} | fields
    return subject.serve(
        messages=saying(PROMPTS[prompt]),
        vllm_xargs={"headstart_speculation": mode},
        **fields,
    )


async def tokens_of(stream: Stream) -> list[int]:
    await soon(finished(stream), 60)
    return list(body(stream)["choices"][0]["token_ids"])


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_answer_is_the_plain_one(vllm: Subject, speculating: Subject, prompt: str) -> None:
    plain = await tokens_of(asked(vllm, prompt, "off"))

    for mode in MODES:
        assert await tokens_of(asked(speculating, prompt, mode)) == plain, mode
