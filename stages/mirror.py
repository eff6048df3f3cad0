"""Carries token logs from a replica to one gateway, one message per engine step.

There is no queue of messages to overflow: the sender keeps a cursor into each log and, whenever
the window allows, takes what lies past it. A slow gateway therefore loses nothing, costs no
memory beyond the logs themselves, and stalls nobody else.
"""

from collections.abc import Callable, Iterator

import msgspec

from headstart.stages.errors import Cancelled, HeadstartError, ProtocolViolation
from headstart.stages.failure import Failure
from headstart.stages.speculation_counts import Speculated
from headstart.stages.stage_clock import Mark
from headstart.stages.token_log import TokenLog

__all__ = ["MirrorSender", "Part", "StreamEnd"]

_PART_BYTES = 64 * 1024
"""Most one stream may put into one message, so that a long body cannot starve the others."""


class StreamEnd(msgspec.Struct, frozen=True, array_like=True):
    """What is known when a log is closed."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens found in the prefix cache."""
    output_tokens: int = 0
    finish_reasons: tuple[str, ...] = ()
    """One per choice, as the engine names them; empty where the request never reached it."""
    failure: Failure | None = None
    is_aborted: bool = False
    speculated: Speculated | None = None
    """None where nothing was drafted."""

    @property
    def is_whole(self) -> bool:
        """Whether the log holds all that the engine would say."""
        return self.failure is None and not self.is_aborted

    def to_error(self) -> HeadstartError | None:
        """Make what a reader must be told of an answer that is not whole."""
        if self.failure is not None:
            return self.failure.to_error()
        if self.is_aborted:
            return Cancelled("the answer was cancelled before it was complete")
        return None


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One stream's share of one message."""

    stream: int
    """The connection's own number for the stream."""
    offset: int
    """Cursor of the first byte of `data`; means nothing where `data` is empty."""
    data: bytes
    """Whole records; may be empty."""
    marks: tuple[tuple[Mark, float], ...] = ()
    """Moments passed since the last part, in seconds on the replica's monotonic clock."""
    end: StreamEnd | None = None
    """Set on the last part of the stream."""
    tokens: tuple[int, int] = (0, 0)
    """Of prompt and answer so far: for an end that the replica cannot give any more."""


class _Watch:
    __slots__ = ("cursor", "end", "log", "marks", "tokens")

    def __init__(self, log: TokenLog, cursor: int, tokens: Callable[[], tuple[int, int]]) -> None:
        self.log = log
        self.tokens = tokens
        self.cursor = cursor
        self.marks: list[tuple[Mark, float]] = []
        self.end: StreamEnd | None = None


class MirrorSender:
    """Sender's side of one replica-to-gateway link.

    Args:
        window_bytes: Most log bytes sent but not yet acknowledged.
    """

    def __init__(self, window_bytes: int) -> None:
        self._window_bytes = window_bytes
        self._watches: dict[int, _Watch] = {}
        self._dirty: dict[int, None] = {}
        """Streams with something unsent, oldest first."""
        self._sent_bytes = 0
        self._acknowledged_bytes = 0

    @property
    def in_flight_bytes(self) -> int:
        """Log bytes sent and not yet acknowledged."""
        return self._sent_bytes - self._acknowledged_bytes

    @property
    def has_work(self) -> bool:
        """Whether there is anything for `collect` to look at now."""
        return any(self._can_send(self._watches[stream]) for stream in self._dirty)

    def watch(
        self,
        stream: int,
        log: TokenLog,
        cursor: int,
        tokens: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        """Begin to mirror a log from a valid cursor on.

        Args:
            tokens: Says how many of prompt and answer there are when a part is sent.

        Raises:
            ProtocolViolation: The number is in use.
        """
        if stream in self._watches:
            raise ProtocolViolation(f"stream number {stream} is in use on this link")
        self._watches[stream] = _Watch(log, cursor, tokens)
        if log.end > cursor:
            self._dirty[stream] = None

    def refused(self, stream: int, end: StreamEnd) -> None:
        """End a stream that has no log to read from."""
        self.watch(stream, TokenLog(max_bytes=0), 0)
        self.ended(stream, end)

    def appended(self, stream: int) -> None:
        """Note that the stream's log has grown."""
        if stream in self._watches:
            self._dirty[stream] = None

    def marked(self, stream: int, mark: Mark, at: float) -> None:
        """Note a mark that the request passed at `at` seconds on the local clock."""
        if (watch := self._watches.get(stream)) is not None:
            watch.marks.append((mark, at))
            self._dirty[stream] = None

    def ended(self, stream: int, end: StreamEnd) -> None:
        """Note that the stream's log is closed."""
        if (watch := self._watches.get(stream)) is not None:
            watch.end = end
            self._dirty[stream] = None

    def acknowledged(self, total_bytes: int) -> None:
        """Take the gateway's running total of log bytes received.

        Raises:
            ProtocolViolation: It claims bytes never sent, or goes backwards.
        """
        if not self._acknowledged_bytes <= total_bytes <= self._sent_bytes:
            raise ProtocolViolation(f"acknowledgement of {total_bytes}, sent {self._sent_bytes}")
        self._acknowledged_bytes = total_bytes

    def collect(self) -> list[Part]:
        """Take what may be sent now: one part for each stream that has news."""
        return list(self._parts())

    @property
    def _is_open(self) -> bool:
        return self.in_flight_bytes < self._window_bytes

    def _can_send(self, watch: _Watch) -> bool:
        return bool(watch.marks) or watch.log.end == watch.cursor or self._is_open

    def _parts(self) -> Iterator[Part]:
        for stream in tuple(self._dirty):
            watch = self._watches[stream]
            if not self._can_send(watch):
                continue
            offset = watch.cursor
            data = watch.log.read(offset, _PART_BYTES) if self._is_open else b""
            watch.cursor += len(data)
            self._sent_bytes += len(data)
            marks, watch.marks = tuple(watch.marks), []
            is_complete = watch.cursor == watch.log.end
            if data or is_complete:
                del self._dirty[stream]
            if data and not is_complete:
                # The rest waits behind the others; a stream that got only marks keeps its turn.
                self._dirty[stream] = None
            end = watch.end if is_complete else None
            if end is not None:
                del self._watches[stream]
            if data or marks or end is not None:
                yield Part(stream, offset, data, marks, end, watch.tokens())
