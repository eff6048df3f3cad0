"""Reads server-sent events as a client gets them."""

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "chunks", "events", "text"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    data: str
    id: str | None
    stop: int
    """Where in the body it ends."""


def events(body: bytes) -> list[Event]:
    """Split the whole body of a stream into its events; comments are left out.

    Raises:
        AssertionError: It does not end at the end of an event, or has an unexpected field.
    """
    assert body == b"" or body.endswith(b"\n\n")
    found: list[Event] = []
    position = 0
    while (stop := body.find(b"\n\n", position)) >= 0:
        block, position = body[position:stop].decode(), stop + 2
        fields: dict[str, list[str]] = {"": [], "id": [], "data": []}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            fields[name].append(value)
        if fields["data"]:
            (number,) = fields["id"] or (None,)
            found.append(Event("\n".join(fields["data"]), number, position))
    return found


def chunks(body: bytes) -> list[dict[str, Any]]:
    """Return the JSON of a complete stream's events, without the mark that ends them."""
    *parts, last = (event.data for event in events(body))
    assert last == "[DONE]"
    return [json.loads(part) for part in parts]


def text(body: bytes, choice: int = 0) -> str:
    """Return the text that a choice's chunks add up to, chat or completion."""
    return "".join(
        (part["delta"].get("content") or "") if "delta" in part else part["text"]
        for chunk in chunks(body)
        for part in chunk["choices"]
        if part["index"] == choice
    )
