"""Tasks with an owner: none is lost, none outlives whoever started it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

__all__ = ["Tasks", "first_of"]

_Result = TypeVar("_Result")

_log = structlog.get_logger(__name__)


class Tasks:
    """Background tasks that end when their owner closes.

    For owners whose life is not one `async with` block (a `TaskGroup` serves the others). A task
    that raises is logged at once; its failure does not cancel the others.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `coroutine` until it returns, is cancelled, or `close` is called."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def finished(self, within_s: float) -> None:
        """Wait until all have ended, for so many seconds at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", task=task.get_name(), exc_info=error)


async def first_of(
    work: Coroutine[Any, Any, _Result], stop: Coroutine[Any, Any, object]
) -> _Result | None:
    """Return what `work` returns, or None if `stop` ended before; both have ended then."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop)
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for one in (working, stopping):
            one.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
