"""Hangs up on a client that does not read what waits for it, however it is connected."""

import asyncio

from headstart.monitoring.labels import Refusal
from headstart.monitoring.metrics import Metrics

__all__ = ["SlowReader"]


class SlowReader:
    """Watches over one connection.

    What waits to be written outlives its stream's log, and no other limit counts it.

    Args:
        loop: The connection's.
        limit_s: For how long a client may read nothing while its connection's buffer is full.
        metrics: Told of who is hung up on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float, metrics: Metrics) -> None:
        self._loop = loop
        self._limit_s = limit_s
        self._metrics = metrics
        self._timer: asyncio.TimerHandle | None = None

    def paused(self, transport: asyncio.Transport) -> None:
        """The buffer is full."""
        self._timer = self._loop.call_later(self._limit_s, self._hang_up, transport)

    def resumed(self) -> None:
        """It is not any more, or the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hang_up(self, transport: asyncio.Transport) -> None:
        self._metrics.refused(Refusal.TOO_SLOW)
        transport.abort()  # closing would wait for the client to read
