"""The reliable rungs: an event stream, and one short request after another.

Both yield batches of events past a cursor and return where the other end has nothing more to say;
whether the answer is whole by then is for `AsyncAnswer` to see.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import httpx

from headstart.client.errors import error_of, unreachable
from headstart.client.events import Event, EventSplitter
from headstart.stages.carrier_ladder import Quiet
from headstart.stages.errors import EngineLost

__all__ = [
    "QUIET_S",
    "Batch",
    "CarrierLost",
    "EventCarrier",
    "EventStream",
    "Headers",
    "Http",
    "Polling",
    "SilentCarrier",
    "events_of",
]

Batch = Sequence[Event] | Quiet
"""What has come; `Quiet` says that nothing has for too long, and that it is still waited for."""
Headers = Sequence[tuple[str, str]]

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

    async def usable(self) -> None:
        """Wait until there is what reading needs, however long."""
        ...

    def read(
        self, stream: str, after: int, before_last: int, *, is_climb: bool = False
    ) -> AsyncGenerator[Batch]:
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


@dataclass(frozen=True, slots=True)
class Http:
    """How one answer is asked for over HTTP.

    Args:
        client: Asks.
        headers: Go along, before the client's own of the same name.
        quiet_s: Silence that is borne.
    """

    client: httpx.AsyncClient
    headers: Headers = ()
    quiet_s: float = QUIET_S

    async def rest(self, stream: str, query: dict[str, int]) -> httpx.Response:
        """Ask for what is past a cursor.

        Raises:
            CarrierLost: It may be tried again.
            HeadstartError: The answer cannot be had.
        """
        request = self.client.build_request(
            "GET", f"/v1/streams/{stream}", params=query, headers=self.headers
        )
        try:
            async with asyncio.timeout(self.quiet_s):
                response = await self.client.send(request, stream=True)
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
                "the gateway does not know this answer any more: it was restarted, or the answer "
                "has expired; ask again"
            )
        raise error_of(response.status_code, body)

    async def stop(self, stream: str) -> None:
        """A `Stop`."""
        try:
            response = await self.client.delete(f"/v1/streams/{stream}", headers=self.headers)
        except httpx.HTTPError as error:
            raise CarrierLost(unreachable(error)) from error
        if not response.is_success and response.status_code != httpx.codes.NOT_FOUND:
            raise error_of(response.status_code, response.content)


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

    def __init__(self, http: Http) -> None:
        self._http = http

    async def usable(self) -> None:
        """At any time."""

    async def read(
        self, stream: str, after: int, before_last: int, *, is_climb: bool = False
    ) -> AsyncGenerator[Sequence[Event]]:
        """Read on, by `EventCarrier`'s rules."""
        response = await self._http.rest(stream, {"after": after})
        if response.status_code == httpx.codes.NO_CONTENT:
            # It ended just here, in a way that only the event before can tell.
            await response.aclose()
            response = await self._http.rest(stream, {"after": before_last})
        yield ()
        async with aclosing(events_of(response, self._http.quiet_s)) as batches:
            async for events in batches:
                yield events


class Polling:
    """Requests that each end with what there is."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def usable(self) -> None:
        """At any time."""

    async def read(
        self, stream: str, after: int, before_last: int, *, is_climb: bool = False
    ) -> AsyncGenerator[Sequence[Event]]:
        """Read on, by `EventCarrier`'s rules."""
        while True:
            query = {"after": after, "wait": _POLL_S}
            response = await self._http.rest(stream, query)
            if response.status_code == httpx.codes.NO_CONTENT:
                await response.aclose()
                query = {"after": before_last, "wait": 0}
                response = await self._http.rest(stream, query)
                async with aclosing(events_of(response, self._http.quiet_s)) as batches:
                    async for events in batches:
                        yield events
                return
            yield ()
            async with aclosing(events_of(response, self._http.quiet_s)) as batches:
                async for events in batches:
                    for event in events:
                        if event.cursor is not None:
                            before_last, after = after, event.cursor
                    yield events
                    if events and events[-1].cursor is None:
                        return  # what is not in the log says why that ends
