"""How long a request whose response is lost is sent again: a budget of time for each."""

import asyncio

from headstart.stages.carrier_ladder import LadderLimits
from headstart.stages.errors import HeadstartError

__all__ = ["Patience"]


class Patience:
    """How long something is tried."""

    def __init__(self, limits: LadderLimits) -> None:
        self._limits = limits
        self._wait_s = limits.min_retry_s
        self._lost_at: float | None = None

    @property
    def has_lost(self) -> bool:
        """Whether any response was."""
        return self._lost_at is not None

    async def lost(self, error: HeadstartError) -> None:
        """Wait until it may be tried again.

        Raises:
            HeadstartError: `error`, if that took too long.
        """
        now = asyncio.get_running_loop().time()
        if self._lost_at is None:
            self._lost_at = now
        if now - self._lost_at >= self._limits.resume_s:
            raise error
        await asyncio.sleep(self._wait_s)
        self._wait_s = min(2 * self._wait_s, self._limits.max_retry_s)
