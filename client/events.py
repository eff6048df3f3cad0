"""Server-sent events as a Headstart gateway writes them: a cursor and a payload."""

from dataclasses import dataclass

__all__ = ["Event", "EventSplitter"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    cursor: int | None
    """After it; None for what is not in the log: the error that ends a broken answer."""
    payload: bytes


class EventSplitter:
    """Cuts a body into events, however it arrives; comments are dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes and return the events that they complete."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        events = [_event(block) for block in blocks]
        return [event for event in events if event.payload]


def _event(block: bytes) -> Event:
    cursor: int | None = None
    parts: list[bytes] = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b": ")
        if name == b"data":
            parts.append(value)
        elif name == b"id" and value.isdigit():
            cursor = int(value)
    return Event(cursor, b"\n".join(parts))
