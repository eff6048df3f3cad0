"""Asks an engine for answers, in the few ways that the contract suite needs."""

import json
from dataclasses import dataclass
from itertools import count
from typing import Any

from headstart.cluster.engine import Engine, EngineInfo, EngineRequest
from headstart.cluster.stream import Stream

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"

_numbers = count()


@dataclass(frozen=True, slots=True)
class Subject:
    """A started engine."""

    engine: Engine
    info: EngineInfo

    def serve(self, path: str = CHAT, /, **fields: Any) -> Stream:
        """Begin an answer of the engine's model at temperature 0."""
        return self.engine.serve(self.request(path, **fields))

    def request(self, path: str = CHAT, /, **fields: Any) -> EngineRequest:
        """Make a request for the engine's model at temperature 0, with a new stream id."""
        if path == CHAT:
            fields.setdefault("messages", saying("Name three colours."))
        return request(path, {"model": self.info.model, "temperature": 0} | fields)


def request(path: str, body: dict[str, Any] | bytes, method: str = "POST") -> EngineRequest:
    """Make a request with a new stream id."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = (("content-type", "application/json"),)
    return EngineRequest(f"contract-{next(_numbers)}", method, path, headers, data)


def saying(text: str) -> list[dict[str, str]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]
