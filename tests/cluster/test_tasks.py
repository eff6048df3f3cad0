"""Work that is done unless something else happens before."""

import asyncio

import pytest

from headstart.cluster.tasks import first_of
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio


class Work:
    """Ends when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.is_cancelled = False

    async def run(self) -> int:
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        return 0


async def test_work_that_ends_first_is_what_counts() -> None:
    work, stop = Work(), Work()
    work.go_on.set()
    assert await soon(first_of(work.run(), stop.run())) == 0
    assert stop.is_cancelled


async def test_work_that_is_stopped_has_ended_and_has_no_result() -> None:
    work, stop = Work(), Work()
    stop.go_on.set()
    assert await soon(first_of(work.run(), stop.run())) is None
    assert work.is_cancelled


async def test_work_that_fails_raises() -> None:
    async def fails() -> None:
        raise ValueError("no")

    stop = Work()
    with pytest.raises(ValueError, match="no"):
        await soon(first_of(fails(), stop.run()))
    assert stop.is_cancelled


async def test_both_end_with_whoever_waits() -> None:
    work, stop = Work(), Work()
    waiting = asyncio.ensure_future(first_of(work.run(), stop.run()))
    for _ in range(3):  # until both have begun
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert work.is_cancelled
    assert stop.is_cancelled
