"""An answer that is made a second time, after whoever made it was lost half-way.

The new engine makes the whole answer again, beginning with the token ids that the log holds. What
it writes is compared with the log, record by record; only what lies past it is news. So readers
either get the answer they were getting, byte for byte, or are told that they cannot.
"""

from collections import deque

import msgspec

from headstart.stages.errors import NotContinued
from headstart.stages.frames import (
    Frame,
    StreamHeader,
    decode_frame,
    decode_header,
    record_bounds,
)

__all__ = ["Replay"]


class Replay:
    """The records of a log that an engine has yet to repeat.

    Args:
        logged: Encoded records from the log's begin to any cursor.

    Raises:
        ProtocolViolation: `logged` is no such thing.
    """

    __slots__ = ("_frames", "_is_header_due", "_known", "_shift_us", "header")

    def __init__(self, logged: bytes) -> None:
        bodies = [logged[start:end] for start, end in record_bounds(logged)]
        self.header: StreamHeader | None = decode_header(bodies[0]) if bodies else None
        """What the answer began with."""
        self._is_header_due = self.header is not None
        self._frames = [decode_frame(body) for body in bodies[1:]]
        self._known: dict[int, deque[Frame]] = {}
        """What each choice has to repeat: engines order choices as they come, so each alone."""
        for frame in self._frames:
            self._known.setdefault(frame.choice, deque()).append(frame)
        self._shift_us = self._frames[-1].at_us if self._frames else 0

    @property
    def is_over(self) -> bool:
        """Whether all that the log holds has been repeated."""
        return not (self._is_header_due or any(self._known.values()))

    def steps(self, choice: int) -> list[tuple[int, ...]]:
        """Return the token ids of a choice, as the steps that its frames were made of."""
        return [frame.tokens for frame in self._frames if frame.choice == choice and frame.tokens]

    def take(self, record: StreamHeader | Frame) -> StreamHeader | Frame | None:
        """Take the next record that the engine has made.

        Returns: The record if it is news, with its time moved behind the log's; None if the log
            holds it.

        Raises:
            NotContinued: The log holds another.
        """
        if isinstance(record, StreamHeader):
            if not self._is_header_due:
                return record
            self._is_header_due = False
            return self._compare(record, self.header)
        if not (known := self._known.get(record.choice)):
            return msgspec.structs.replace(record, at_us=record.at_us + self._shift_us)
        frame = known.popleft()
        return self._compare(msgspec.structs.replace(record, at_us=frame.at_us), frame)

    @staticmethod
    def _compare(record: StreamHeader | Frame, known: StreamHeader | Frame | None) -> None:
        if record != known:
            raise NotContinued(
                "the replica was lost while it answered, and another gave a different answer"
            )
