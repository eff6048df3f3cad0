"""The rung of datagrams: records of the token log, projected into the gateway's own events.

Who brings the records is a session (`client/quic_session.py`). Projected, they are the event
stream's own events byte for byte, so a reader may change carriers in the middle of an answer.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from headstart.client.carriers import Batch, CarrierLost, Headers
from headstart.client.events import Event
from headstart.client.session_wire import WHY_HEADER, Why
from headstart.stages.carrier_ladder import Quiet, Rung
from headstart.stages.errors import NotFound, ProtocolViolation
from headstart.stages.frames import StreamHeader, decode_frame, decode_header, record_bounds
from headstart.stages.sse import project, split_events

__all__ = ["Connect", "Growing", "RecordProjector", "Records", "Session", "Sessions"]

_log = logging.getLogger(__name__)

_RETRY_S = 30.0
"""After an attempt that failed: networks that block UDP go on doing so."""
_ANSWER_S = 3.0
"""Within which a session's server answers; one that has been restarted knows nothing of it."""


class Growing(Protocol):
    """One answer's log on a session, as it grows: what `client/reading.py` gives."""

    error: dict[str, Any] | None
    """How it failed, in OpenAI's words, once it is over."""

    @property
    def log(self) -> bytes:
        """The whole records that are here, from the log's header on."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether all of its log is here."""
        ...

    def records(self) -> AsyncIterator[bytes]:
        """Yield whole records from the log's header on, until the answer or the session is over.

        An empty run says that nothing has come for too long, not even a heartbeat.
        """
        ...


Read = TypeVar("Read", bound=Growing)


class Session(Protocol[Read]):
    """A connection over which answers come by datagrams."""

    is_heard: bool
    """Whether something has come by it, since it was opened or this was taken back."""

    @property
    def closed_for(self) -> str | None:
        """Why it ended; None while it is open."""
        ...

    @property
    def is_reading(self) -> bool:
        """Whether answers are read by it."""
        ...

    async def heard(self) -> None:
        """Wait until something comes by it, or it ends."""
        ...

    async def resume(self, stream_id: str, headers: Headers, log: bytes) -> Read:
        """Read an answer on, after the records that are here already.

        Raises:
            ConnectionError: The session ended first.
        """
        ...

    def drop(self, reading: Read) -> None:
        """Read an answer no longer; it goes on."""
        ...

    async def stop(self, stream_id: str, headers: Headers) -> object:
        """Have an answer stopped.

        Raises:
            ConnectionError: The session ended first.
            HeadstartError: The gateway refuses.
        """
        ...

    def close(self) -> None:
        """End it; what is read by it is cut off."""
        ...


Connect = Callable[[], Awaitable[Session[Read]]]
"""Opens a session; raises `OSError` where none can be had."""


class RecordProjector:
    """Turns the records of one log, in order from its header on, into events."""

    def __init__(self) -> None:
        self._header: StreamHeader | None = None
        self._cursor = 0

    def feed(self, records: bytes) -> list[Event]:
        """Take the next whole records.

        Raises:
            ProtocolViolation: They are no records, or not of a streamed answer.
        """
        events: list[Event] = []
        for first, stop in record_bounds(records):
            record = records[first:stop]
            if self._header is None:
                self._header = decode_header(record)
                continue
            payloads, _ = split_events(project(self._header, decode_frame(record)))
            events += [Event(self._cursor + stop, payload) for payload in payloads]
        self._cursor += len(records)
        return events


class Sessions(Generic[Read]):
    """Opens a session when one is needed, another when that has ended or does not answer.

    All answers share it; one that cannot wait for it does not stop it from being opened.
    """

    def __init__(self, connect: Connect[Read]) -> None:
        self._connect = connect
        self._session: Session[Read] | None = None
        """The newest. Those before it close when their last reader leaves."""
        self._doubted: Session[Read] | None = None
        """That did not answer; nothing has come by it since, unless it `is_heard`."""
        self._opening: asyncio.Task[None] | None = None
        self._not_before = float("-inf")

    def prepare(self) -> None:
        """Begin to open a session, if there is none and none was refused a moment ago."""
        loop = asyncio.get_running_loop()
        is_opening = self._opening is not None and not self._opening.done()
        if not is_opening and self.open is None and loop.time() >= self._not_before:
            self._opening = loop.create_task(self._opened(), name="open a session")

    async def close(self) -> None:
        """End the session; answers go on without a reader."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        for session in self._open_ones:
            session.close()

    async def current(self) -> Session[Read] | None:
        """Wait for an open session, opening one if need be; None where there cannot be one."""
        self.prepare()
        if self.open is None and self._opening is not None:
            await asyncio.shield(self._opening)
        return self.open

    async def usable(self) -> None:
        """Wait for an open session by which something has come."""
        while True:
            session = await self.current()
            if session is not None and session.is_heard:
                return
            waiting = [asyncio.ensure_future(one.heard()) for one in self._open_ones]
            waiting.append(asyncio.ensure_future(asyncio.sleep(_RETRY_S)))
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waiting:
                    one.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)

    @property
    def open(self) -> Session[Read] | None:
        """The session, where one is open now and not in doubt."""
        heard = [session for session in self._open_ones if session.is_heard]
        new = [session for session in self._open_ones if session is not self._doubted]
        return next(iter(heard + new), None)

    @property
    def _open_ones(self) -> list[Session[Read]]:
        both = dict.fromkeys((self._session, self._doubted))
        return [one for one in both if one is not None and one.closed_for is None]

    def doubt(self, session: Session[Read]) -> None:
        """Open another beside one that did not answer, unless something comes by it first.

        Its server may be gone; QUIC itself would take ten times as long to see that. If it is the
        path that is dark, who reads on goes on where that ends.
        """
        session.is_heard, self._doubted = False, session

    def left(self, session: Session[Read]) -> None:
        """A reader has left a session; close it, if it was the last and none shall follow."""
        is_done = session is not self.open and not session.is_reading
        if is_done and session.closed_for is None:
            session.close()

    async def _opened(self) -> None:
        try:
            session = await self._connect()
            before, self._session = self._session, session
            if before is not None:
                self.left(before)
            return
        except OSError as error:
            _log.info("answers come by event streams alone: %s", error)
        except Exception:
            _log.exception("answers come by event streams alone: opening a session failed")
        self._not_before = asyncio.get_running_loop().time() + _RETRY_S


class Records(Generic[Read]):
    """An `EventCarrier` by datagrams, of one answer.

    What one session has brought of the log, the next need not bring again. What came by event
    streams it does bring: the digest is over all of the log, and events are not the log's bytes.
    """

    def __init__(self, sessions: Sessions[Read], headers: Headers = ()) -> None:
        self._sessions = sessions
        self._headers = headers
        self._log = b""

    async def usable(self) -> None:
        """Wait until there is a session by which something comes, opening one if need be."""
        await self._sessions.usable()

    async def stop(self, stream: str) -> None:
        """A `Stop`, over the session if one is open."""
        session = self._sessions.open
        if session is None:
            raise CarrierLost("there is no session")
        try:
            await session.stop(stream, self._headers)
        except NotFound:
            return
        except OSError as error:
            raise CarrierLost(str(error)) from error

    async def read(
        self, stream: str, after: int, before_last: int, *, is_climb: bool = False
    ) -> AsyncGenerator[Batch]:
        """Read on, by `EventCarrier`'s rules; what is before `after` comes again, to be dropped.

        A quiet session is listened to: after a blackout nobody is there sooner.
        """
        session = await self._sessions.current()
        if session is None:
            raise CarrierLost
        reading = None
        try:
            why = Why.JOIN if not after else Why.CLIMB if is_climb else Why.RESUME
            reading = await self._begun(session, stream, why)
            projector = RecordProjector()
            yield ()
            async for records in reading.records():
                yield projector.feed(records) if records else Quiet(Rung.DATAGRAMS)
            if reading.is_whole and reading.error is not None:
                yield [Event(None, msgspec.json.encode({"error": reading.error}))]
        except ProtocolViolation as error:
            raise CarrierLost from error
        finally:
            if reading is not None:
                self._log = b"" if reading.is_whole else reading.log
                session.drop(reading)
            self._sessions.left(session)

    async def _begun(self, session: Session[Read], stream: str, why: Why) -> Read:
        headers = (*self._headers, (WHY_HEADER, why.value))
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await session.resume(stream, headers, self._log)
        except TimeoutError as error:
            self._sessions.doubt(session)
            raise CarrierLost from error
        except OSError as error:
            raise CarrierLost from error
