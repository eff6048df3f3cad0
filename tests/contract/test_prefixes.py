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

    was_cached = await soon(subject.engine.warm(tokens))
    again = await soon(subject.engine.warm(tokens))
    stream = await finished(subject.engine.serve(asked))

    # The chat template may begin every prompt alike, so the first call may find some of it.
    whole_blocks = (len(tokens) - 1) // block * block
    assert was_cached < whole_blocks
    assert again == whole_blocks
    assert stream.end is not None
    assert stream.end.cached_tokens == whole_blocks


async def test_salt_keeps_caches_apart(subject: Subject) -> None:
    asked = subject.request(COMPLETIONS, prompt=new_text(), max_tokens=1)
    tokens = await soon(subject.engine.render(asked))

    await soon(subject.engine.warm(tokens, cache_salt="one"))

    assert await soon(subject.engine.warm(tokens, cache_salt="two")) == 0
    assert await soon(subject.engine.warm(tokens, cache_salt="one")) > 0


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
