"""A drafter of the recipe, trimmed and written at the target's size, as vLLM's draft model."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headstart.configs.model_settings import ModelSettings
from tests.contract.asking import COMPLETIONS, Subject
from tests.contract.conftest import ENGINE, started_pool
from tests.contract.test_draft_model import NUM_TOKENS, PROMPTS, pool_of
from tests.support.streams import body, finished
from tests.support.waiting import soon

pytestmark = [pytest.mark.anyio, *ENGINE]

NUM_ANSWERED = 40
NUM_STEPS = 150


@pytest.fixture(scope="module")
def answers(tiny_model: Path) -> list[list[int]]:
    """What the target says, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    said = []
    for prompt in PROMPTS:
        tokens = list(prompt)
        with torch.inference_mode():
            for _ in range(NUM_ANSWERED):
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        said.append(tokens[len(prompt) :])
    return said


@pytest.fixture(scope="module")
def trimmed(
    tiny_model: Path, answers: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """It has learnt the answers but for the last; tokens that only that one has are cut off."""
    import torch
    from transformers import AutoTokenizer

    from headstart.recipes.drafter_model import Drafter, ShapeOptions, vocabulary_size
    from headstart.recipes.trimming import cut, widened
    from headstart.recipes.vocabulary import Vocabulary

    whole = Drafter.new(
        ShapeOptions(layers=1, hidden_size=64, heads=2),
        Vocabulary(vocabulary_size(tiny_model)),
        "x",
        256,
        0,
    )
    pairs = list(zip(PROMPTS, answers, strict=True))[:-1]
    optimizer = torch.optim.AdamW(whole.model.parameters(), lr=5e-3)
    for step in range(NUM_STEPS):
        prompt, answer = pairs[step % len(pairs)]
        tokens = torch.tensor([[*prompt, *answer]])
        labels = tokens.clone()
        labels[:, : len(prompt)] = -100
        whole.model(tokens, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    known = {token for prompt, answer in pairs for token in (*prompt, *answer)}
    model: Any = widened(cut(whole, tuple(sorted(known))))
    folder = tmp_path_factory.mktemp("trimmed")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
async def drafted(
    vllm_model: ModelSettings, tiny_model: Path, trimmed: Path
) -> AsyncIterator[Subject]:
    async with started_pool(pool_of(tiny_model, trimmed), tiny_model) as subject:
        yield subject


async def test_the_text_is_the_targets_and_what_was_learnt_is_accepted(
    drafted: Subject, answers: list[list[int]]
) -> None:
    for number, (prompt, answer) in enumerate(zip(PROMPTS, answers, strict=True)):
        stream = drafted.serve(
            COMPLETIONS,
            prompt=prompt,
            max_tokens=NUM_ANSWERED,
            ignore_eos=True,
            return_token_ids=True,
        )
        await soon(finished(stream), 60)

        assert body(stream)["choices"][0]["token_ids"] == answer
        assert stream.end is not None
        assert stream.end.speculated is not None
        counts = stream.end.speculated
        assert counts.drafted >= NUM_TOKENS
        if number < len(PROMPTS) - 1:
            assert counts.accepted > 0.5 * counts.drafted
