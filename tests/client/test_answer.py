"""What an answer does with its carriers."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncAnswer
from headstart.client.events import Event
from headstart.stages.carrier_ladder import Rung
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio


class Datagrams:
    """Brings one event at once, and no other."""

    async def usable(self) -> None:
        pass

    async def read(
        self, stream: str, after: int, before_last: int, *, is_climb: bool = False
    ) -> AsyncGenerator[Sequence[Event]]:
        yield [Event(1, b'{"choices": []}')]
        await asyncio.Event().wait()


async def test_the_end_waits_for_carriers_that_are_still_being_closed() -> None:
    closed: list[str] = []

    async def events() -> AsyncGenerator[Sequence[Event]]:
        try:
            yield ()
            await asyncio.Event().wait()
        finally:
            for _ in range(20):
                await asyncio.sleep(0)
            closed.append("event stream")

    answer = AsyncAnswer([], "a", {Rung.DATAGRAMS: Datagrams()}, events(), ChatCompletionChunk)
    await soon(anext(answer))
    assert answer.rungs == {Rung.DATAGRAMS}
    assert not closed

    await soon(answer.close())

    assert closed == ["event stream"]
