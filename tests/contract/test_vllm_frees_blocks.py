"""An answer that is stopped gives its KV blocks back: measured in vLLM's own count of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest

from headstart.cluster.stream import StreamTable
from tests.contract.asking import Subject
from tests.contract.conftest import ENGINE, on_the_data_plane
from tests.support.waiting import eventually, soon

if TYPE_CHECKING:
    from headstart.cluster.vllm_engine import VllmEngine

pytestmark = [pytest.mark.anyio, *ENGINE]

LONG = 1500


def blocks_in_use(subject: Subject) -> float:
    return cast("VllmEngine", subject.engine)._load.kv_cache_usage


@asynccontextmanager
async def holding_blocks(vllm: Subject, asked: Subject) -> AsyncIterator[str]:
    """A long answer in the making; afterwards its blocks must be free again."""
    await eventually(lambda: vllm.engine.load().running == 0 and blocks_in_use(vllm) == 0)
    stream = asked.serve(max_tokens=LONG, stream=True, ignore_eos=True)
    await soon(stream.grown(0))
    await eventually(lambda: blocks_in_use(vllm) > 0)
    yield stream.id
    await soon(stream.finished())
    await eventually(lambda: vllm.engine.load().running == 0)
    await eventually(lambda: blocks_in_use(vllm) == 0)
    assert stream.end is not None
    assert stream.end.output_tokens < LONG


async def test_abort(vllm: Subject) -> None:
    async with holding_blocks(vllm, vllm) as stream_id:
        await vllm.engine.abort(stream_id)


async def test_abort_from_a_gateway(vllm: Subject, vllm_on_the_data_plane: Subject) -> None:
    async with holding_blocks(vllm, vllm_on_the_data_plane) as stream_id:
        await vllm_on_the_data_plane.engine.abort(stream_id)


async def test_gateway_that_leaves(vllm: Subject, vllm_streams: StreamTable) -> None:
    async with on_the_data_plane(vllm, vllm_streams) as remote, holding_blocks(vllm, remote):
        await remote.engine.close()


async def test_answer_that_outgrows_its_log(vllm: Subject, vllm_streams: StreamTable) -> None:
    async with holding_blocks(vllm, vllm) as stream_id:
        stream = vllm_streams.get(stream_id)
        stream.log.max_bytes = stream.log.end
    assert stream.failure is not None
    assert stream.failure.error == "PayloadTooLarge"


async def test_body_that_outgrows_its_log(vllm: Subject) -> None:
    stream = vllm.serve(max_tokens=3)
    stream.log.max_bytes = 100
    await soon(stream.finished())
    assert stream.failure is not None
    assert stream.failure.error == "PayloadTooLarge"


async def test_what_is_computed_ahead_is_held_by_nobody(vllm: Subject) -> None:
    tokens = [65 + number % 26 for number in range(300)]
    first = await soon(vllm.engine.warm(tokens, cache_salt="held by nobody"))
    await eventually(lambda: vllm.engine.load().running == 0 and blocks_in_use(vllm) == 0)
    again = await soon(vllm.engine.warm(tokens, cache_salt="held by nobody"))
    assert (first.num_cached, again.num_cached > 200) == (0, True)
    await eventually(lambda: vllm.engine.load().running == 0 and blocks_in_use(vllm) == 0)


async def test_many_at_once(vllm: Subject) -> None:
    streams = [vllm.serve(max_tokens=LONG, stream=True, ignore_eos=True) for _ in range(8)]
    await soon(asyncio.gather(*(stream.grown(0) for stream in streams)))
    assert blocks_in_use(vllm) > 0
    abort: Callable[[str], Awaitable[None]] = vllm.engine.abort

    await soon(asyncio.gather(*(abort(stream.id) for stream in streams)))

    await eventually(lambda: vllm.engine.load().running == 0 and blocks_in_use(vllm) == 0)
