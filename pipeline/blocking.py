"""One thread for everything that blocks: fetching models, and all calls to Ray."""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["BlockingThread"]

T = TypeVar("T")


class BlockingThread:
    """Runs blocking calls one after another, off the event loop.

    Always the same thread, because Ray's processes are told to die with the *thread* that started
    them (`PR_SET_PDEATHSIG`); and a daemon thread, because Ctrl-C must not have to wait for a
    download: the pool that asyncio offers is joined at exit.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._num_pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        threading.Thread(target=self._run, daemon=True, name="blocking work").start()

    async def idle(self, within_s: float) -> bool:
        """Wait until every call has returned, for so many seconds at most; return whether."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        return self._idle.is_set()

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Return what `function(*args)` returns, or raise what it raises.

        Cancelling this leaves the function running: nothing can stop a thread.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            self._num_pending -= 1
            if not self._num_pending:
                self._idle.set()
            if result.done():
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(value)

        def work() -> None:
            value, failure = None, None
            try:
                value = function(*args)
            except BaseException as error:
                failure = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value, failure)

        self._num_pending += 1
        self._idle.clear()
        self._work.put(work)
        return await result

    def _run(self) -> None:
        while True:
            self._work.get()()
