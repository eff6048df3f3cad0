"""What must hold of every body a client can send, whoever makes the bodies up."""

import json
from contextlib import suppress
from typing import Any

from headstart.pipeline.inbound import understand
from headstart.stages.access import Secrets
from headstart.stages.errors import BadRequest

__all__ = ["check"]

SECRETS = Secrets("a-secret-for-tests-only")
OURS = ("headstart", "priority", "cache_salt")


def salted(own: str | None) -> str:
    return SECRETS.cache_salt("alice", own)


def check(body: bytes, *, has_keys: bool) -> str:
    """Let the gateway understand a body, and compare what the engine gets with what came.

    The engine's app reads bodies with Python's `json`; the gateway for the most part does not.
    Wherever both read one, they must read the same.

    Returns: What became of it.

    Raises:
        AssertionError: The engine would get another request than the client sent.
    """
    try:
        inbound = understand(body, {}, salted if has_keys else None)
    except BadRequest:
        return "refused"
    with suppress(BadRequest):
        understand(body, {}, None, "/v1/embeddings")
    sent, got = _read(body), _read(inbound.body)
    if not isinstance(got, dict):
        assert not isinstance(sent, dict), "an object was spoilt"
        return "for the engine to refuse"
    assert "headstart" not in got
    assert "priority" not in got
    if isinstance(sent, dict):
        own = sent.get("cache_salt")
        # As text, because NaN is not equal to itself.
        assert repr(got.get("cache_salt")) == repr(salted(own) if has_keys else own)
        # What is no name, or no plain yes, is for the engine to read or to refuse.
        named = sent.get("model")
        assert inbound.model == (named if isinstance(named, str) else None)
        assert inbound.is_stream == (sent.get("stream") is True)
        assert _rest(got) == _rest(sent)
        if not has_keys and not {"headstart", "priority"} & sent.keys():
            assert inbound.body is body
    elif has_keys:
        assert got["cache_salt"] == salted(None)
    return "passed on"


def _read(body: bytes) -> Any:
    """Read as the engine's app does; None where it cannot."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _rest(tree: dict[str, Any]) -> str:
    """The fields that are the engine's business, comparable even where they hold NaN."""
    return repr({name: value for name, value in tree.items() if name not in OURS})
