"""Waits for what is sure to happen soon, and fails where it does not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["PATIENCE_S", "eventually", "soon"]

PATIENCE_S = 120.0
"""Far more than anything here takes; a test that waits as long has failed."""

Result = TypeVar("Result")


async def soon(work: Awaitable[Result], within_s: float = PATIENCE_S) -> Result:
    """Await something, for so many seconds at most."""
    async with asyncio.timeout(within_s):
        return await work


async def eventually(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Give everyone else turns until `condition` holds, for so many seconds at most."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - not everything has an event to wait for
            await asyncio.sleep(0.001)
