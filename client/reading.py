"""One answer as a client reads it over a QUIC session: its log, growing, and how it ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from headstart.client.session_wire import Answer, End
from headstart.stages.datagram_events import (
    Attach,
    CatchUpReceived,
    Complete,
    PathQuiet,
    ReceiverAction,
    ReceiverEvent,
    Render,
    Rendered,
    SendAck,
    SnapshotReceived,
)
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.errors import ProtocolViolation
from headstart.stages.published_eloquent import PublishedReceiver
from headstart.stages.wire import DIGEST_BYTES, Piece, Snapshot

__all__ = ["Reading", "Receiver"]

Receiver = Callable[[int, bytes], DatagramReceiver | PublishedReceiver]
"""Makes the machine that reads a log, of the scheme that the server sends by."""


class Reading:
    """One reader of one answer.

    Args:
        number: The session's for it.
        log: Whole records from an earlier session; reading goes on after them.
        send: Sends a datagram: `send(number, data)`.
        receiver: Of the server's scheme.
    """

    def __init__(
        self,
        number: int,
        log: bytes,
        send: Callable[[int, bytes], object],
        receiver: Receiver = DatagramReceiver,
    ) -> None:
        self.number = number
        self.answer: Answer | None = None
        """The head of the answer, once it is here; records may be here before it."""
        self.error: dict[str, Any] | None = None
        """Why the answer is not whole, in OpenAI's words, once it is over."""
        self.is_over = False
        self._is_quiet = False
        self._body: list[bytes] = []
        self._send = send
        self._receiver = receiver(number, log)
        self._begins_at = self._receiver.shown
        self._end: End | None = None
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def stream_id(self) -> str | None:
        """The answer's name at the server, for another session to go on with."""
        headers = () if self.answer is None else self.answer.headers
        return next((value for name, value in headers if name == "x-headstart-stream"), None)

    @property
    def body(self) -> bytes:
        """What came instead of a log."""
        return b"".join(self._body)

    @property
    def log(self) -> bytes:
        """The token log so far, whole records only."""
        return self._receiver.read(0)

    @property
    def is_whole(self) -> bool:
        """Whether everything is here, and its digest right."""
        return self._receiver.is_complete

    async def begun(self) -> None:
        """Wait for the head of the answer, or for records: only an answer that is carried has some.

        The head travels on a stream of its own, where one lost packet holds it up.

        Raises:
            ConnectionError: The session ended first, or the server gave up.
        """
        await self._until(lambda: self._has_begun)
        if not self._has_begun:
            why = "it was dropped" if self.error is None else self.error["message"]
            raise ConnectionError(f"the answer did not begin: {why}")

    @property
    def _has_begun(self) -> bool:
        return self.answer is not None or self._is_past(self._begins_at)

    async def finished(self) -> None:
        """Wait until the answer is over: whole, failed, or cut off with the session."""
        await self._until(lambda: False)

    async def records(self) -> AsyncIterator[bytes]:
        """Yield whole records as they come, each once, until the answer is over.

        What is handed on so counts as shown: acknowledgements tell the server when. An empty run
        says that nothing has come for three seconds: another way, from the same cursor, may be
        quicker. This one is listened to all the same.
        """
        cursor = 0
        while True:
            await self._grown(cursor, or_quiet=True)
            if records := self._receiver.read(cursor):
                cursor += len(records)
                self.feed(Rendered(cursor))
            elif self.is_over:
                return
            yield records
            if not records:
                await self._grown(cursor, or_quiet=False)

    async def _grown(self, cursor: int, *, or_quiet: bool) -> None:
        await self._until(lambda: self._is_past(cursor) or (or_quiet and self._is_quiet))

    def _is_past(self, cursor: int) -> bool:
        return self._receiver.shown > cursor

    # As the session's.

    def began(self, answer: Answer) -> None:
        """The head of the answer is here."""
        self.answer = answer
        if answer.is_carried:
            self.feed(Attach())
        self._changed.set()
        self._check_over()

    def take_body(self, data: bytes) -> None:
        """Bytes of the body came."""
        self._body.append(data)

    def feed(self, event: ReceiverEvent) -> None:
        """Take what came for this answer."""
        # A server that goes on sending has not heard that everything is here: say it again. When
        # the last records are handed on, the last acknowledgement is still to leave.
        is_late = self._receiver.is_complete and isinstance(event, SnapshotReceived | Rendered)
        if self.is_over and not is_late:
            return
        now = asyncio.get_running_loop().time()
        self._is_quiet &= isinstance(event, Rendered)
        try:
            self._act(self._receiver.feed(event, now), now)
        except ProtocolViolation as error:
            self.close({"message": error.message, "type": error.kind})

    def ended(self, end: End) -> None:
        """The server says that the answer, or the carrying of it, is over.

        Raises:
            ProtocolViolation: Its digest is none.
        """
        digest = _digest_of(end)
        self._end = end
        if digest is not None:
            piece = Piece(end.cursor, b"")
            self.feed(SnapshotReceived(Snapshot(self.number, 0, (piece,), digest)))
        if not end.is_whole:
            self.close(end.error)
        self._check_over()

    def caught_up(self, start: int, data: bytes) -> None:
        """Bytes came over a reliable stream."""
        self.feed(CatchUpReceived(Piece(start, data)))

    def close(self, error: dict[str, Any] | None) -> None:
        """Nothing more will come."""
        if self.is_over:
            return
        self.is_over, self.error = True, error
        if self._timer is not None and not self._receiver.is_complete:
            self._timer.cancel()
        self._changed.set()

    def _act(self, actions: list[ReceiverAction], now: float) -> None:
        for action in actions:
            if isinstance(action, SendAck):
                self._send(self.number, action.datagram)
            elif isinstance(action, Render):
                self._changed.set()
            elif isinstance(action, Complete):
                self._check_over()
            elif isinstance(action, PathQuiet):
                self._is_quiet = True
                self._changed.set()
        self._arm(now)

    def _check_over(self) -> None:
        # The head comes on a stream of its own, and perhaps after all else.
        if self.answer is not None and self._end is not None and self._receiver.is_complete:
            self.close(self._end.error)

    def _arm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._receiver.deadline()
        if due is not None and (not self.is_over or self._receiver.is_complete):
            delay_s = max(0.0, due - now)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._woken)

    def _woken(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        self._act(self._receiver.expire(now), now)

    async def _until(self, is_enough: Callable[[], bool]) -> None:
        while not self.is_over and not is_enough():
            self._changed.clear()
            await self._changed.wait()


def _digest_of(end: End) -> bytes | None:
    if not end.digest:
        return None
    try:
        digest = bytes.fromhex(end.digest)
    except ValueError as error:
        raise ProtocolViolation("an answer's digest is not hexadecimal") from error
    if len(digest) != DIGEST_BYTES:
        raise ProtocolViolation(f"an answer's digest of {len(digest)} bytes")
    return digest
