"""Background work stays out of the way."""

import asyncio

import pytest

from headstart.cluster.stream import Stream
from headstart.cluster.warm_lane import WarmLane
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio


class Calls:
    """Calls that want a turn; each keeps it until it is let go."""

    def __init__(self, lane: WarmLane) -> None:
        self._lane = lane
        self.order: list[int] = []
        self.let_go = asyncio.Event()

    async def one(self, number: int) -> None:
        async with self._lane.turn():
            self.order.append(number)
            await self.let_go.wait()


async def test_one_at_a_time_in_order() -> None:
    calls = Calls(WarmLane(1))
    tasks = [asyncio.ensure_future(calls.one(number)) for number in range(3)]
    await eventually(lambda: calls.order == [0])

    tasks[1].cancel()
    calls.let_go.set()

    await soon(asyncio.gather(*tasks, return_exceptions=True))
    assert calls.order == [0, 2]


async def test_none_while_an_answer_waits() -> None:
    lane = WarmLane(1)
    calls = Calls(lane)
    calls.let_go.set()
    first, second = Stream("one", 1 << 20), Stream("two", 1 << 20)
    lane.give_way_to(first)
    lane.give_way_to(second)
    task = asyncio.ensure_future(calls.one(1))

    await asyncio.sleep(0)
    first.mark(Mark.SCHEDULED, 1.0)
    first.mark(Mark.FIRST_TOKEN, 2.0)
    await asyncio.sleep(0)
    assert not calls.order
    second.finish(StreamEnd(is_aborted=True))

    await soon(task)
    assert calls.order == [1]


async def test_none_before_an_answer_that_comes_as_the_last_one_has_passed() -> None:
    lane = WarmLane(1)
    calls = Calls(lane)
    calls.let_go.set()
    first, second = Stream("one", 1 << 20), Stream("two", 1 << 20)
    lane.give_way_to(first)
    task = asyncio.ensure_future(calls.one(1))
    await asyncio.sleep(0)

    first.finish(StreamEnd())
    lane.give_way_to(second)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not calls.order
    second.finish(StreamEnd())

    await soon(task)
    assert calls.order == [1]
