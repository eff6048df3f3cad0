"""The reliable rungs: an event stream, and one short request after another.

Both yield batches of events past a cursor and return where the other end has nothing more to say;
whether the answer is whole by then is for `AsyncAnswer` to see.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

import httpx

from headstart.client.errors import error_of
from headstart.client.events import Event, EventSplitter
from headstart.stages.errors import EngineLost

__all__ = ["CarrierLost", "EventCarrier", "EventStream", "Polling", "SilentCarrier", "events_of"]

QUIET_S = 20.0
"""The gateway says something every 15 s unless it is told otherwise."""
_POLL_S = 10
_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}
"""Statuses of a gateway that is starting, or of a proxy before it."""


class CarrierLost(Exception):
    """The connection ended before the answer did, which can be asked for again."""


class SilentCarrier(CarrierLost):
    """Nothing came for too long, though the connection stands."""


class EventCarrier(Protocol):
    """One way to read an answer.

    The third, by datagrams, is in `client/records.py`.
    """

    async def is_usable(self) -> bool:
        """Wait for what reading needs, if that is on its way, and say whether it is there."""
        ...

    def read(
        self, stream: str, after: int, before_last: int, *, is_climb: bool = False
    ) -> AsyncGenerator[Sequence[Event]]:
        """Yield the events past a cursor, in order, in batches. The first may be empty: it says
        that the other end has answered.

        Args:
            stream: The answer's id.
            after: Cursor to go on from.
            before_last: Cursor of one event earlier, for carriers that cannot tell the answer's
                end from there; what comes twice is dropped.
            is_climb: Whether another rung carries the answer, and goes on meanwhile.

        Raises:
            CarrierLost: It may be tried again.
            HeadstartError: The answer cannot be had.
        """
        ...


async def events_of(response: httpx.Response, quiet_s: float) -> AsyncGenerator[Sequence[Event]]:
    """Yield the events of an event stream that has begun, and close it.

    Raises:
        CarrierLost: It broke off, or fell silent.
    """
    splitter = EventSplitter()
    chunks = response.aiter_raw()
    try:
        while True:
            async with asyncio.timeout(quiet_s):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield splitter.feed(chunk)
    except TimeoutError as error:
        raise SilentCarrier from error
    except httpx.HTTPError as error:
        raise CarrierLost from error
    finally:
        await response.aclose()


class EventStream:
    """Server-sent events."""

    def __init__(self, http: httpx.AsyncClient, quiet_s: float = QUIET_S) -> None:
        self._http = http
        self._quiet_s = quiet_s

    async def is_usable(self) -> bool:
        """At any time."""
        return True

    async def read(
        self, stream: str, after: int, before_last: int, *, is_climb: bool = False
    ) -> AsyncGenerator[Sequence[Event]]:
        """Read on, by `EventCarrier`'s rules."""
        response = await _ask(self._http, stream, {"after": after}, self._quiet_s)
        if response.status_code == httpx.codes.NO_CONTENT:
            # It ended just here, in a way that only the event before can tell.
            await response.aclose()
            response = await _ask(self._http, stream, {"after": before_last}, self._quiet_s)
        yield ()
        async with aclosing(events_of(response, self._quiet_s)) as batches:
            async for events in batches:
                yield events


class Polling:
    """Requests that each end with what there is."""

    def __init__(self, http: httpx.AsyncClient, quiet_s: float = QUIET_S) -> None:
        self._http = http
        self._quiet_s = quiet_s

    async def is_usable(self) -> bool:
        """At any time."""
        return True

    async def read(
        self, stream: str, after: int, before_last: int, *, is_climb: bool = False
    ) -> AsyncGenerator[Sequence[Event]]:
        """Read on, by `EventCarrier`'s rules."""
        while True:
            query = {"after": after, "wait": _POLL_S}
            response = await _ask(self._http, stream, query, self._quiet_s)
            if response.status_code == httpx.codes.NO_CONTENT:
                await response.aclose()
                query = {"after": before_last, "wait": 0}
                response = await _ask(self._http, stream, query, self._quiet_s)
                async with aclosing(events_of(response, self._quiet_s)) as batches:
                    async for events in batches:
                        yield events
                return
            yield ()
            async with aclosing(events_of(response, self._quiet_s)) as batches:
                async for events in batches:
                    for event in events:
                        if event.cursor is not None:
                            before_last, after = after, event.cursor
                    yield events
                    if events and events[-1].cursor is None:
                        return  # what is not in the log says why that ends


async def _ask(
    http: httpx.AsyncClient, stream: str, query: dict[str, int], quiet_s: float
) -> httpx.Response:
    request = http.build_request("GET", f"/v1/streams/{stream}", params=query)
    try:
        async with asyncio.timeout(quiet_s):
            response = await http.send(request, stream=True)
            if response.is_success:
                return response
            body = await response.aread()
    except TimeoutError as error:
        raise SilentCarrier from error
    except httpx.HTTPError as error:
        raise CarrierLost from error
    if response.status_code in _MAY_PASS:
        raise CarrierLost
    if response.status_code == httpx.codes.NOT_FOUND:
        raise EngineLost(
            "the gateway does not know this answer any more: it was restarted, or the answer has "
            "expired; ask again"
        )
    raise error_of(response.status_code, body)
