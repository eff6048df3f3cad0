"""The seam for datagrams: whoever brings records of the token log becomes a carrier here.

A session (`client/quic_session.py`) hands over the log's own bytes; they are projected into the
same events that the gateway's event stream has, byte for byte, so a reader may change carriers in
the middle of an answer.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from headstart.client.events import Event
from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import StreamHeader, decode_frame, decode_header, record_bounds
from headstart.stages.sse import project, split_events

__all__ = ["ProjectedRecords", "RecordProjector", "RecordSource"]


class RecordSource(Protocol):
    """A session with a gateway over which answers come as records."""

    def records(self, stream: str, after: int) -> AsyncGenerator[tuple[int, bytes]]:
        """Subscribe to an answer and yield `(cursor of the first byte, whole records)`.

        The first run is the log's header, from cursor 0, whatever `after` is; the rest goes on from
        `after` without a gap. An empty run says that the other end has answered. Closing the
        iterator ends the subscription. Every record that is handed over counts as shown.

        Raises:
            CarrierLost: The session is over, or its path has been quiet for too long.
            HeadstartError: The answer cannot be had.
        """
        ...


class RecordProjector:
    """Turns records into events."""

    def __init__(self) -> None:
        self._header: StreamHeader | None = None

    def feed(self, start: int, records: bytes) -> list[Event]:
        """Take whole records from a cursor on.

        Raises:
            ProtocolViolation: They are no records, or the header is missing.
        """
        events: list[Event] = []
        for first, stop in record_bounds(records):
            record = records[first:stop]
            if self._header is None:
                if start > 0:
                    raise ProtocolViolation("records without the log's header")
                self._header = decode_header(record)
                continue
            payloads, _ = split_events(project(self._header, decode_frame(record)))
            events += [Event(start + stop, payload) for payload in payloads]
        return events


class ProjectedRecords:
    """A `Carrier` over a `RecordSource`."""

    def __init__(self, source: RecordSource) -> None:
        self._source = source

    async def read(
        self, stream: str, after: int, before_last: int
    ) -> AsyncGenerator[Sequence[Event]]:
        """Read on, by `Carrier`'s rules."""
        projector = RecordProjector()
        async with aclosing(self._source.records(stream, after)) as runs:
            async for start, records in runs:
                yield projector.feed(start, records)
