"""Has an answer stopped, by every way that there is to the gateway."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from headstart.client.carriers import CarrierLost
from headstart.stages.errors import HeadstartError

__all__ = ["Stop", "ask_to_stop"]

Stop = Callable[[str], Coroutine[Any, Any, None]]
"""Asks for the end of an answer; one that nobody knows any more has stopped as well. Raises
`CarrierLost` where the gateway could not be asked, and why where it refuses."""

_log = logging.getLogger(__name__)

_TRY_S = 3.0
_WAIT_S = 0.5


async def ask_to_stop(stops: Sequence[Stop], stream: str, num_tries: int = 1) -> str | None:
    """Try all ways at once, each time for 3 s at most; returns why none was open, or None."""
    why: str | None = None
    for left in reversed(range(num_tries)):
        why = await _race(stops, stream)
        if why is None:
            return None
        if left:
            await asyncio.sleep(_WAIT_S)
    return why


async def _race(stops: Sequence[Stop], stream: str) -> str | None:
    asking = [asyncio.ensure_future(stop(stream)) for stop in stops]
    why: list[str] = []
    try:
        async with asyncio.timeout(_TRY_S):
            for asked in asyncio.as_completed(asking):
                try:
                    await asked
                except Exception as error:
                    if not isinstance(error, CarrierLost | HeadstartError):
                        _log.exception("a way of stopping an answer failed")
                    why.append(str(error) or type(error).__name__)
                else:
                    return None
    except TimeoutError:
        why.append(f"no answer within {_TRY_S:g} s")
    finally:
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return "; ".join(why)
