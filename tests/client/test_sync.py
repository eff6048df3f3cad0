"""The client without `await`."""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from headstart.client import Client
from headstart.stages.errors import NotFound
from tests.support.gateway import Gateway, saying, serving, speeds
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

Result = TypeVar("Result")


async def in_thread(work: Callable[[], Result]) -> Result:
    return await soon(asyncio.to_thread(work))


async def test_chunks_come_without_await(gateway: Gateway) -> None:
    def work() -> tuple[list[str], str | None]:
        with Client(gateway.url) as client:
            answer = client.chat.completions.create(**saying(), stream=True)
            parts = [c.delta.content or "" for chunk in answer for c in chunk.choices]
            return parts, client.chat.completions.create(**saying()).choices[0].message.content

    parts, whole = await in_thread(work)

    assert len(parts) > 2
    assert "".join(parts) == whole


async def test_a_program_that_forgets_to_close_ends_and_closing_twice_does_no_harm(
    gateway: Gateway,
) -> None:
    code = f"""
from headstart.client import Client
closed = Client({gateway.url!r})
closed.close()
closed.close()
client = Client({gateway.url!r})
answer = client.completions.create(prompt="a", stream=True, max_tokens=100_000)
next(answer)
"""
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await soon(program.wait()) == 0
    await eventually(lambda: gateway.replica.engine.load().running == 0)


async def test_errors_are_raised_where_they_are_asked_for(gateway: Gateway) -> None:
    def work() -> None:
        with Client(gateway.url) as client, pytest.raises(NotFound):
            client.completions.create(model="none", prompt="a", stream=True)

    await in_thread(work)


async def test_cancelling_and_leaving(gateway: Gateway) -> None:
    def work() -> list[object]:
        with Client(gateway.url) as client:
            first = client.completions.create(prompt="a", stream=True, max_tokens=100_000)
            next(first)
            first.cancel()
            with client.completions.create(prompt="a", stream=True, max_tokens=100_000) as second:
                next(second)
            return list(first)

    assert await in_thread(work) == []
    await eventually(lambda: gateway.replica.engine.load().running == 0)


async def test_another_thread_may_cancel_what_is_waited_for() -> None:
    def work(url: str) -> None:
        with Client(url) as client, ThreadPoolExecutor() as threads:
            answer = client.completions.create(prompt="a", stream=True)
            next(answer)
            reader = threads.submit(lambda: list(answer))
            answer.cancel()
            reader.result(5.0)

    async with serving(speeds(tokens_per_s=0.001)) as gateway:
        await in_thread(lambda: work(gateway.url))
        await gateway.replica.idle(1.0)
