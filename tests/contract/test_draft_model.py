"""A pool of replicas beside which a model drafts, as vLLM's CPU backend runs it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headstart.cluster import launch_adapter
from headstart.cluster.stream import Stream
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import DrafterSettings, SpeculationSettings
from headstart.stages.errors import SetupError
from tests.contract.asking import COMPLETIONS, Subject
from tests.contract.conftest import ENGINE, started_pool
from tests.contract.sampling import check_sampling
from tests.support.streams import body, finished
from tests.support.waiting import eventually, soon

pytestmark = [pytest.mark.anyio, *ENGINE]

AT_ONCE = 4
NUM_TOKENS = 3
ANSWER_TOKENS = 40
PROMPTS = [[5, 6, 7, 8, 5, 6], [40, 41, 42], list(range(2, 90))]


@pytest.fixture(scope="module")
def half_as_sure(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drafter that is right now and then: the model itself, disturbed."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn_like(weights), alpha=0.03)
    folder = tmp_path_factory.mktemp("drafter")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def pool_of(tiny_model: Path, drafter: Path, method: Any = "draft_model") -> ModelSettings:
    by_rows = {AT_ONCE - 1: 1, AT_ONCE: 0}
    drafters = {
        "de": DrafterSettings(
            source=str(drafter),
            method=method,
            num_tokens=NUM_TOKENS,
            num_tokens_by_rows=by_rows,
        )
    }
    settings = ModelSettings(
        name="tiny",
        source=str(tiny_model),
        dtype="float32",
        max_model_len=256,
        speculation=SpeculationSettings(default="auto", drafters=drafters),
        engine_args={"enforce_eager": True, "num_gpu_blocks_override": 64, "max_num_seqs": AT_ONCE},
    )
    _, pool = settings.pools
    return pool


@pytest.fixture(scope="module")
async def drafted(
    vllm_model: ModelSettings, tiny_model: Path, half_as_sure: Path
) -> AsyncIterator[Subject]:
    async with started_pool(pool_of(tiny_model, half_as_sure), tiny_model) as subject:
        yield subject


def totals(drafted: Subject) -> tuple[int, int, int, int, int]:
    """Tokens drafted and accepted, drafts, rows and tokens of the engine's steps until now."""
    found = drafted.engine.speculation()
    if found is None or "de" not in found.languages:
        return 0, 0, 0, 0, 0
    counts = found.languages["de"]
    model = counts.sources["model"]
    return sum(model.drafted), sum(model.accepted), model.drafts, counts.rows, counts.tokens


async def test_answers_are_the_models_own_and_drafts_are_counted(
    drafted: Subject, tiny_model: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    num_drafted = num_accepted = 0
    before = totals(drafted)  # tests come in any order
    for prompt in PROMPTS:
        stream = drafted.serve(
            COMPLETIONS,
            prompt=prompt,
            max_tokens=ANSWER_TOKENS,
            ignore_eos=True,
            return_token_ids=True,
        )
        await soon(finished(stream), 60)
        answer = body(stream)["choices"][0]["token_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        assert logits.argmax(dim=-1).tolist() == answer
        assert stream.end is not None
        assert stream.end.speculated is not None
        num_drafted += stream.end.speculated.drafted
        num_accepted += stream.end.speculated.accepted

    assert num_drafted > num_accepted > len(PROMPTS)

    await eventually(lambda: totals(drafted)[1] - before[1] == num_accepted)
    found = drafted.engine.speculation()
    assert found is not None
    assert found.languages.keys() == {"de"}
    assert len(found.languages["de"].sources["model"].drafted) == NUM_TOKENS
    num_of = [now - then for now, then in zip(totals(drafted), before, strict=True)]
    num_drafts, num_rows, num_tokens = num_of[2:]
    assert num_of[0] == num_drafted
    assert num_tokens == len(PROMPTS) * ANSWER_TOKENS
    assert num_rows >= num_drafts + len(PROMPTS)  # no draft gains a first token
    # At an answer's end fewer may be left of a draft than were accepted.
    assert 0 <= num_accepted - (num_tokens - num_rows) <= len(PROMPTS) * NUM_TOKENS


async def test_sampling_draws_from_the_models_distribution(
    drafted: Subject, tiny_model: Path
) -> None:
    await check_sampling(drafted, tiny_model, AT_ONCE, lambda _: None)


@pytest.mark.parametrize("field", [{"min_p": 0.1, "temperature": 1.0}, {"logit_bias": {"5": 1.0}}])
async def test_what_does_not_go_with_it_is_refused(
    drafted: Subject, field: dict[str, object]
) -> None:
    """The gateway asks another pool."""
    stream = drafted.serve(COMPLETIONS, prompt=PROMPTS[0], max_tokens=4, **field)
    await soon(finished(stream), 60)

    assert stream.log.header is not None
    assert stream.log.header.status == 400


async def test_less_is_drafted_where_more_are_answered(drafted: Subject) -> None:
    """As `num_tokens_by_rows` has it, and as right as alone."""

    def asked(prompt: list[int]) -> Stream:
        fields = {"max_tokens": 24, "ignore_eos": True, "return_token_ids": True}
        return drafted.serve(COMPLETIONS, prompt=prompt, **fields)

    before = totals(drafted)[-1]
    prompts = [[at + 5, at + 6, 7, 8, at + 5] for at in range(AT_ONCE)]
    alone = [await soon(finished(asked(prompt)), 60) for prompt in prompts]
    streams = [asked(prompt) for prompt in prompts]
    beside = [await soon(finished(stream), 60) for stream in streams]

    tokens = [[body(one)["choices"][0]["token_ids"] for one in each] for each in (alone, beside)]
    assert tokens[0] == tokens[1]
    num_drafted = [
        sum(one.end.speculated.drafted for one in each if one.end and one.end.speculated)
        for each in (alone, beside)
    ]
    assert num_drafted[0] > 0
    assert num_drafted[1] < num_drafted[0] / 2  # none, if all four keep step to the end
    # What was gained without drafts is counted, too.
    await eventually(lambda: totals(drafted)[-1] - before == 2 * AT_ONCE * 24)


def test_plan_of_drafts_is_put_as_vllm_reads_it(vllm_model: ModelSettings) -> None:
    from vllm.v1.spec_decode.dynamic.utils import build_dynamic_sd_schedule_lookup

    drafter = DrafterSettings(source="a/b", num_tokens=4, num_tokens_by_rows={32: 0, 8: 2})
    plan = launch_adapter._by_rows(drafter)["num_speculative_tokens_per_batch_size"]

    by_rows = build_dynamic_sd_schedule_lookup(plan, 64, 4)
    assert by_rows[1:] == [4] * 7 + [2] * 24 + [0] * 33
    assert launch_adapter._by_rows(DrafterSettings(source="a/b")) == {}


def test_drafter_of_another_vocabulary_is_refused(
    vllm_model: ModelSettings, tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(tiny_model)
    config.vocab_size += 8
    LlamaForCausalLM(config).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    from headstart.cluster.vllm_tap import TappedLLM

    args = launch_adapter.engine_arguments(pool_of(tiny_model, tmp_path), str(tiny_model))

    with pytest.raises(SetupError, match="same vocabulary size"):
        launch_adapter.build_llm(TappedLLM, args, [])
