"""Writes a stretch of a token log to a reliable stream, no faster than its reader takes it."""

from headstart.client.carrier import Carrier
from headstart.client.session_wire import encode_catch_up
from headstart.stages.token_log import TokenLog

__all__ = ["LogPipe"]

_AHEAD_BYTES = 64 * 1024
"""Most that is written and not confirmed; the rest waits in the log, where it is anyway."""


class LogPipe:
    """One stretch on a stream of its own.

    Args:
        number: The session's for the log.
        start: Cursor of the first byte.
        stop: Cursor after the last; None goes on until the log is closed.
    """

    def __init__(
        self, carrier: Carrier, number: int, log: TokenLog, start: int, stop: int | None
    ) -> None:
        self._carrier = carrier
        self._log = log
        self._cursor = start
        self._stop = stop
        self.is_written = False
        """Whether all of it has been handed to the carrier."""
        self.stream_id = carrier.open_stream(is_bidirectional=False)
        carrier.write(self.stream_id, encode_catch_up(number, start))

    @property
    def cursor(self) -> int:
        """Up to where the log has been handed to the carrier."""
        return self._cursor

    @property
    def confirmed(self) -> int:
        """Up to where its reader has it, or a little less."""
        return self._cursor - self._carrier.backlog(self.stream_id)

    @property
    def is_done(self) -> bool:
        """Whether its reader has all of it."""
        return self.is_written and self._carrier.backlog(self.stream_id) == 0

    def pump(self) -> int:
        """Write what is there and has room; return how many bytes that was."""
        before = self._cursor
        while not self.is_written:
            stop = self._log.end if self._stop is None else self._stop
            is_last = self._stop is not None or self._log.is_closed
            room = _AHEAD_BYTES - self._carrier.backlog(self.stream_id)
            if self._cursor < stop and room <= 0:
                break
            data = b""
            if self._cursor < stop:
                data = self._log.read(self._cursor, room)[: stop - self._cursor]
                self._cursor += len(data)
            self.is_written = is_last and self._cursor == stop
            if data or self.is_written:
                self._carrier.write(self.stream_id, data, is_end=self.is_written)
            if self._cursor == stop:
                break
        return self._cursor - before

    def close(self) -> None:
        """Stop, whatever is missing."""
        if not self.is_done:
            self._carrier.reset_stream(self.stream_id)
        self.is_written = True
