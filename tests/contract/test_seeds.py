"""A seed gives the same answer again."""

from typing import Any

import pytest

from headstart.cluster.stream import Stream
from headstart.cluster.vllm_engine import VllmEngine
from tests.contract.asking import COMPLETIONS, Subject
from tests.contract.conftest import ENGINE
from tests.support.streams import body, finished

pytestmark = [pytest.mark.anyio, *ENGINE]


async def test_seed_gives_the_same_answer_however_its_prompt_was_cut(vllm: Subject) -> None:
    """Where a step has no room for all of a prompt vLLM draws a token for each of its pieces."""
    assert isinstance(vllm.engine, VllmEngine)
    llm: Any = vllm.engine._llm
    room = llm.vllm_config.scheduler_config.max_num_batched_tokens
    # The first begins alone; the others do not fit into a step together.
    prompts = [
        list(range(start, start + size))
        for start, size in enumerate((40, room * 2 // 3, room * 2 // 3), 1000)
    ]

    def serve(prompt: list[int], seed: int = 5) -> Stream:
        asked = {"seed": seed, "temperature": 1, "max_tokens": 8, "ignore_eos": True}
        return vllm.serve(COMPLETIONS, prompt=prompt, return_token_ids=True, **asked)

    at_once = [serve(prompt) for prompt in prompts]
    cut = [await tokens(stream) for stream in at_once]
    whole = [await tokens(serve(prompt)) for prompt in prompts]
    other = await tokens(serve(prompts[0], seed=6))

    assert cut == whole
    assert other != whole[0]


async def tokens(stream: Stream) -> list[int]:
    found: list[int] = body(await finished(stream))["choices"][0]["token_ids"]
    return found
