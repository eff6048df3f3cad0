"""What two answers of the same kind have in common, whatever they say."""

import json
from collections import Counter
from typing import Any

from headstart.stages.sse import DONE, split_events

_TELLING = ("object", "role", "finish_reason", "type")
"""Fields whose text belongs to the shape."""


def shape(value: Any, name: str = "") -> Any:
    """Reduce JSON to its fields, in their order, and their types."""
    match value:
        case dict() if value and all(isinstance(one, float) for one in value.values()):
            return "numbers by text"
        case dict():
            return {key: shape(one, key) for key, one in value.items()}
        case list():
            return sorted({json.dumps(shape(one)) for one in value})
        case str() if name in _TELLING:
            return value
        case _:
            return type(value).__name__


def chunk_shapes(events: bytes) -> Counter[str]:
    """Count the shapes of an event stream's chunks."""
    payloads, rest = split_events(events)
    assert not rest
    if not events.startswith(b"event: "):  # the Responses API has no mark for the end
        assert payloads.pop() == DONE
    return Counter(json.dumps(shape(json.loads(payload))) for payload in payloads)
