"""Rendered prompts and the prefix cache."""

import asyncio
from uuid import uuid4

import pytest

from headstart.stages.errors import BadRequest
from tests.contract.asking import COMPLETIONS, Subject, request, saying
from tests.support.streams import finished
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

NUM_WORDS = 120
"""More than one block of tokens in any tokenizer, and less than the context."""


def new_text() -> str:
    """A text that no cache has seen the beginning of."""
    return f"{uuid4()} " + " ".join(f"word{number}" for number in range(NUM_WORDS))


async def test_render_is_what_serving_computes(subject: Subject) -> None:
    asked = subject.request(messages=saying("One two three."), max_tokens=1)

    tokens = await soon(subject.engine.render(asked))
    stream = await finished(subject.engine.serve(asked))

    assert tokens
    assert stream.end is not None
    assert stream.end.prompt_tokens == len(tokens)


async def test_render_of_completion(subject: Subject) -> None:
    asked = subject.request(COMPLETIONS, prompt="One two three", max_tokens=1)

    assert await soon(subject.engine.render(asked))


async def test_render_refuses(subject: Subject) -> None:
    with pytest.raises(BadRequest):
        await soon(subject.engine.render(request(COMPLETIONS, b"{bad")))


async def test_warm_tokens_are_cached(subject: Subject) -> None:
    asked = subject.request(messages=saying(new_text()), max_tokens=1)
    tokens = await soon(subject.engine.render(asked))
    block = subject.info.block_size

    first = await soon(subject.engine.warm(tokens))
    again = await soon(subject.engine.warm(tokens))
    stream = await finished(subject.engine.serve(asked))

    # The chat template may begin every prompt alike, so the first call may find some of it.
    whole_blocks = (len(tokens) - 1) // block * block
    assert first.num_cached < whole_blocks
    assert again.num_cached == whole_blocks
    assert first.seconds > 0
    assert stream.end is not None
    assert stream.end.cached_tokens == whole_blocks


async def test_salt_keeps_caches_apart(subject: Subject) -> None:
    asked = subject.request(COMPLETIONS, prompt=new_text(), max_tokens=1)
    tokens = await soon(subject.engine.render(asked))

    await soon(subject.engine.warm(tokens, cache_salt="one"))

    assert (await soon(subject.engine.warm(tokens, cache_salt="two"))).num_cached == 0
    assert (await soon(subject.engine.warm(tokens, cache_salt="one"))).num_cached > 0


async def test_slices_add_up(subject: Subject) -> None:
    asked = subject.request(messages=saying(new_text()), max_tokens=1)
    tokens = await soon(subject.engine.render(asked))
    block = subject.info.block_size
    ends = range(block, len(tokens) + 1, block)

    for end in ends:
        warmth = await soon(subject.engine.warm(tokens[:end]))
        assert warmth.num_cached <= end - block or end == block
    stream = await finished(subject.engine.serve(asked))

    assert stream.end is not None
    assert stream.end.cached_tokens == (len(tokens) - 1) // block * block


async def test_warm_calls_take_turns(subject: Subject) -> None:
    asked = subject.request(messages=saying(new_text()), max_tokens=1)
    tokens = await soon(subject.engine.render(asked))
    block = subject.info.block_size

    warmths = await soon(asyncio.gather(*(subject.engine.warm(tokens) for _ in range(3))))

    # Together they would each have computed it.
    assert [one.num_cached for one in warmths[1:]] == [(len(tokens) - 1) // block * block] * 2


async def test_warm_call_for_an_unknown_model_is_refused(subject: Subject) -> None:
    with pytest.raises(BadRequest):
        await soon(subject.engine.warm([1, 2, 3], model="nobody"))
    assert await soon(subject.engine.warm([1, 2, 3], model=subject.info.model))


async def test_impossible_warm_calls_are_refused(subject: Subject) -> None:
    for tokens in ([], [5] * (subject.info.max_model_len + 1)):
        with pytest.raises(BadRequest):
            await soon(subject.engine.warm(tokens))
    assert await soon(subject.engine.warm([1, 2, 3]))


async def test_refusal_names_the_field(subject: Subject) -> None:
    asked = subject.request(messages=saying("word " * 3 * subject.info.max_model_len))

    with pytest.raises(BadRequest) as refusal:
        await soon(subject.engine.render(asked))

    assert refusal.value.param == "input_tokens"


async def test_cancelled_warm_call_stops(subject: Subject) -> None:
    tokens = list(range(100, 100 + subject.info.max_model_len - 8))

    warming = asyncio.ensure_future(subject.engine.warm(tokens))
    await asyncio.sleep(0)
    warming.cancel()

    with pytest.raises(asyncio.CancelledError):
        await warming
    stream = await finished(subject.serve(max_tokens=1))
    assert stream.end is not None
    await eventually(lambda: subject.engine.load().running == 0)
