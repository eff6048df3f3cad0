"""Several tokens a step, and the answer that one a step gives: on the real model, in float32."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from headstart.cluster import adapter
from headstart.cluster.stream import Stream
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from headstart.stages.speculation_counts import Speculated, SpeculationCounts
from headstart.stages.wish import wish_arguments
from tests.contract.asking import COMPLETIONS, Subject, saying
from tests.contract.conftest import ENGINE, started_vllm
from tests.contract.sampling import Asking, check_sampling
from tests.support.streams import body, chunks, finished, stream_table
from tests.support.waiting import eventually, soon

if TYPE_CHECKING:
    from headstart.cluster.vllm_engine import VllmEngine

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
    fields = {"max_tokens": 32, "return_token_ids": True} | fields
    return subject.serve(
        messages=saying(PROMPTS[prompt]),
        vllm_xargs={"headstart_speculation": mode},
        **fields,
    )


async def tokens_of(stream: Stream) -> list[int]:
    await soon(finished(stream), 60)
    return list(body(stream)["choices"][0]["token_ids"])


@pytest.fixture(scope="module")
async def plain(vllm: Subject) -> dict[str, list[int]]:
    """The answers to all prompts, one token a step, one answer after another."""
    return {prompt: await tokens_of(asked(vllm, prompt, "off")) for prompt in PROMPTS}


@pytest.mark.parametrize("prompt", ["edit", "german"])
async def test_answer_is_the_plain_one(
    plain: dict[str, list[int]], speculating: Subject, prompt: str
) -> None:
    for mode in MODES:
        assert await tokens_of(asked(speculating, prompt, mode)) == plain[prompt], mode


async def test_answers_side_by_side_are_the_plain_ones(
    plain: dict[str, list[int]], speculating: Subject
) -> None:
    pairs = [(prompt, mode) for prompt in PROMPTS for mode in MODES]

    found = await asyncio.gather(*(tokens_of(asked(speculating, *pair)) for pair in pairs))

    for (prompt, mode), tokens in zip(pairs, found, strict=True):
        assert tokens == plain[prompt], (prompt, mode)


FEATURES: dict[str, dict[str, Any]] = {
    "stop string": {"stop": ["lazy"]},
    "stop token": {"stop_token_ids": [28]},
    "stop token in a draft": {"stop_token_ids": [28], "min_tokens": 20},
    "logprobs": {"logprobs": True, "top_logprobs": 2, "max_tokens": 24},
    "structured": {"structured_outputs": {"regex": "(fox dog ){1,8}"}},
    "length": {"max_tokens": 7},
    "min_tokens": {"min_tokens": 30, "max_tokens": 40},
    "repetition_penalty": {"repetition_penalty": 1.05},
    "strong repetition_penalty": {"repetition_penalty": 1.3},
    "counted penalties": {"presence_penalty": 0.4, "frequency_penalty": 0.1},
    "bad_words": {"bad_words": ["fox", " lazy dog"]},
    "allowed_tokens": {"allowed_token_ids": list(range(20, 400))},
}
"""What goes together with drafts."""

ALTERED = (
    "repetition_penalty",
    "strong repetition_penalty",
    "counted penalties",
    "bad_words",
    "allowed_tokens",
)
"""Those that change what the model would say."""

UNDRAFTED: dict[str, dict[str, Any]] = {
    "logit_bias": {"logit_bias": {"28": 5.0}},
    "min_p": {"temperature": 1e-3, "min_p": 0.9},
    "seed": {"temperature": 0.7, "seed": 5},
}
"""What leaves a request without drafts, by the reason that is counted."""


@pytest.mark.parametrize("mode", ["copy", "jacobi"])
@pytest.mark.parametrize("name", FEATURES)
async def test_feature_works_with_drafts(
    vllm: Subject, speculating: Subject, name: str, mode: str
) -> None:
    fields = FEATURES[name]
    plain = await finished(asked(vllm, "quote", "off", **fields))

    found = await finished(asked(speculating, "quote", mode, **fields))

    mine, theirs = body(found)["choices"][0], body(plain)["choices"][0]
    for choice in (mine, theirs):
        for token in (choice.get("logprobs") or {}).get("content", ()):
            for one in (token, *token["top_logprobs"]):
                one["logprob"] = round(one["logprob"], 2)
    assert mine == theirs
    assert found.end is not None
    if name != "stop string" and (counted := found.end.speculated) is not None:
        assert counted.accepted + counted.steps <= len(mine["token_ids"])
    # What would be copied may be what the altered ones rule out.
    if name not in ("length", "structured", *ALTERED):
        assert found.end.speculated is not None
        assert found.end.speculated.drafted > 0
        assert found.end.speculated.accepted > 0 or mode == "jacobi"


async def test_altered_distributions_go_side_by_side(vllm: Subject, speculating: Subject) -> None:
    """Each row with its own prefix of drafted tokens, beside rows that draft and that do not."""
    fields: dict[str, dict[str, Any]] = {"none": {}}
    fields.update((name, FEATURES[name]) for name in ALTERED)
    plain = {
        name: await tokens_of(asked(vllm, "edit", "off", **each)) for name, each in fields.items()
    }
    streams = {
        (name, mode): asked(speculating, "edit", mode, **each)
        for name, each in fields.items()
        for mode in ("copy", "jacobi", "off")
    }

    for (name, mode), stream in streams.items():
        assert await tokens_of(stream) == plain[name], (name, mode)
        assert stream.end is not None
        if mode == "jacobi":
            assert stream.end.speculated is not None
            assert stream.end.speculated.drafted > 0


@pytest.mark.parametrize("reason", UNDRAFTED)
async def test_feature_turns_drafts_off(vllm: Subject, speculating: Subject, reason: str) -> None:
    fields = UNDRAFTED[reason]
    before = counts_of(speculating).fallbacks.get(reason, 0)
    plain = await tokens_of(asked(vllm, "quote", "off", **fields))

    found = asked(speculating, "quote", "copy", **fields)

    assert await tokens_of(found) == plain
    assert found.end is not None
    assert found.end.speculated in (None, Speculated())
    # The count comes with a delay, and so may another test's before it.
    await eventually(lambda: counts_of(speculating).fallbacks.get(reason, 0) > before)


async def test_sampling_draws_from_the_models_distribution(
    speculating: Subject, vllm_model_path: Path
) -> None:
    """Of the four likeliest tokens; what was copied is verified, and often wrong."""
    drafted = accepted = 0

    def ended(stream: Stream) -> None:
        nonlocal drafted, accepted
        assert stream.end is not None
        if (speculated := stream.end.speculated) is not None:
            drafted, accepted = drafted + speculated.drafted, accepted + speculated.accepted

    listed = (28, 260, 1250, 28, 260, 2240, 28, 260, 1250, 28, 260, 2240, 28)
    asking = Asking(listed, temperature=1.2, top_k=4, num_samples=800)
    wish = wish_arguments("copy")
    # Few at once: what is copied from is indexed in a share of what steps take.
    await check_sampling(speculating, vllm_model_path, 4, ended, asking, vllm_xargs=wish)

    assert asking.num_samples / 4 < accepted < drafted, (accepted, drafted)


async def test_prompt_of_which_one_token_is_left_is_answered_without_drafts(
    vllm: Subject, speculating: Subject
) -> None:
    """vLLM would fill it up with a draft of nothing, in which `logit_bias` does not count."""
    size = speculating.info.block_size

    async def answered(subject: Subject, **fields: Any) -> tuple[list[int], int, Any]:
        wanted = {"prompt": list(range(1000, 1001 + size)), "max_tokens": 4, **fields}
        stream = subject.serve(COMPLETIONS, return_token_ids=True, **wanted)
        tokens = await tokens_of(stream)
        assert stream.end is not None
        return tokens, stream.end.cached_tokens, stream.end.speculated

    first = (await answered(vllm))[0][0]
    biased = {"logit_bias": {str(first): -100}}
    expected = (await answered(vllm, **biased))[0]
    assert first not in expected[:1]

    assert (await answered(speculating))[0][0] == first
    tokens, num_cached, speculated = await answered(speculating, **biased)

    assert (tokens, num_cached) == (expected, size)
    assert speculated in (None, Speculated())


async def test_stopping_is_forbidden_as_long_as_without_drafts(
    vllm: Subject, speculating: Subject
) -> None:
    plain = await tokens_of(asked(vllm, "edit", "off"))
    stops = [token for token, _ in Counter(plain).most_common(3)]
    for at_least in range(5, 20, 2):
        fields = {"min_tokens": at_least, "stop_token_ids": stops}
        expected = await tokens_of(asked(vllm, "edit", "off", **fields))
        assert len(expected) >= at_least
        for mode in ("copy", "jacobi"):
            found = await tokens_of(asked(speculating, "edit", mode, **fields))
            assert found == expected, (at_least, mode)


async def test_log_probabilities_of_given_tokens_are_refused_where_others_are_drafted_for(
    vllm: Subject, speculating: Subject
) -> None:
    wanted = {"logprobs": True, "logprob_token_ids": [5, 6], "max_tokens": 4}
    copied = asked(speculating, "edit", "copy", logprobs=True, top_logprobs=3)

    refused = asked(speculating, "quote", "off", **wanted)
    await soon(refused.finished(), 60)

    assert refused.end is not None
    failure = refused.end.failure
    assert failure is not None
    assert (failure.error, failure.param) == ("BadRequest", "logprob_token_ids")
    assert await tokens_of(copied) == await tokens_of(asked(vllm, "edit", "off"))
    assert await tokens_of(asked(vllm, "quote", "off", **wanted))


async def test_answer_says_what_was_drafted(speculating: Subject) -> None:
    stream = await finished(asked(speculating, "quote", "copy"))

    assert stream.end is not None
    speculated = stream.end.speculated
    assert speculated is not None
    assert 0 < speculated.accepted <= speculated.drafted
    # Each step gives a token of its own besides: the first came with the prompt.
    assert speculated.accepted + speculated.steps < stream.end.output_tokens


def usage_of(stream: Stream, is_streamed: bool) -> dict[str, Any]:
    told = chunks(stream)[-1] if is_streamed else body(stream)
    found: dict[str, Any] = told["usage"]
    return found


STREAMED: dict[bool, dict[str, Any]] = {
    False: {},
    True: {"stream": True, "stream_options": {"include_usage": True}},
}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("name", ["length", "stop string", "stop token"])
async def test_usage_says_what_was_drafted(
    vllm: Subject, speculating: Subject, name: str, is_streamed: bool
) -> None:
    fields = FEATURES[name] | STREAMED[is_streamed]
    plain = usage_of(await finished(asked(vllm, "quote", "off", **fields)), is_streamed)
    off = usage_of(await finished(asked(speculating, "quote", "off", **fields)), is_streamed)
    stream = await finished(asked(speculating, "quote", "jacobi", **fields))
    found = usage_of(stream, is_streamed)

    assert off == plain
    assert stream.end is not None
    speculated = stream.end.speculated
    assert speculated is not None
    assert 0 < speculated.steps <= speculated.drafted
    assert found["completion_tokens_details"] == {
        "accepted_prediction_tokens": speculated.accepted,
        "rejected_prediction_tokens": speculated.drafted - speculated.accepted,
    }
    assert found["headstart"] == msgspec.structs.asdict(speculated)
    for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert found[key] == plain[key]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_usage_of_several_choices_is_what_the_worker_drafted_for_all(
    speculating: Subject, is_streamed: bool
) -> None:
    """Whichever of them end by a stop string, and at whatever time."""
    llm = cast("VllmEngine", speculating.engine)._llm
    assert llm is not None
    before = await adapter.speculation_counts(llm)
    fields = {"n": 4, "temperature": 0.5, "stop": ["lazy", "jump"], "max_tokens": 24}
    stream = asked(speculating, "quote", "copy", **fields, **STREAMED[is_streamed])
    await soon(finished(stream), 60)
    drafted = (await adapter.speculation_counts(llm)).since(before)

    assert stream.end is not None
    assert "stop" in stream.end.finish_reasons
    sources = drafted.sources.values()
    told = usage_of(stream, is_streamed)["headstart"]
    assert told["drafted"] == sum(sum(each.drafted) for each in sources) > 0
    assert told["accepted"] == sum(sum(each.accepted) for each in sources)
    assert told["steps"] == sum(each.drafts for each in sources)


async def test_replica_says_how_it_drafts_by_default(vllm: Subject, speculating: Subject) -> None:
    assert (vllm.info.speculation, speculating.info.speculation) == (None, "off")


async def test_streamed_steps_hold_several_tokens(vllm: Subject, speculating: Subject) -> None:
    plain = await finished(asked(vllm, "quote", "off", stream=True))
    found = await finished(asked(speculating, "quote", "copy", stream=True))

    texts, longest = [], 0
    for stream in (plain, found):
        frames = [frame for _, frame in stream.log.frames(0)]
        texts.append("".join(frame.text for frame in frames))
        longest = max(len(frame.tokens) for frame in frames)
    assert texts[0] == texts[1]
    assert longest > 2


def counts_of(subject: Subject) -> SpeculationCounts:
    counts = subject.engine.speculation()
    assert counts is not None
    return counts
