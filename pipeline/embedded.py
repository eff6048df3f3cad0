"""How many inputs one request for embeddings may have: each is a request of its own to the engine.

vLLM bounds the prompts of a completion by itself (`launch_adapter.engine_environment`), but not
these.
"""

import json

import msgspec

from headstart.pipeline.body_fields import Fields
from headstart.stages.errors import BadRequest

__all__ = ["MAX_INPUTS", "check_inputs"]

MAX_INPUTS = 2048
"""OpenAI's own limit, which the batches of its clients keep to."""


_NAMES = ("input", "messages")
"""The latter is vLLM's: one conversation, or a list of them."""


def check_inputs(fields: Fields) -> None:
    """Refuse a request with too many inputs.

    Raises:
        BadRequest: There are too many.
    """
    for name in _NAMES:
        num = _count(getattr(fields, name))
        if num > MAX_INPUTS:
            raise BadRequest(
                f"`{name}` holds {num} inputs; at most {MAX_INPUTS} are embedded at once",
                param=name,
            )


def _count(value: msgspec.Raw) -> int:
    text = bytes(value)
    first = text[1:].lstrip()[:1]
    if text[:1] != b"[" or first.isdigit() or first == b"-":
        return 1  # a text, or the tokens of one
    try:
        return len(msgspec.json.decode(value, type=list[msgspec.Raw]))
    except msgspec.DecodeError:  # not a number to msgspec
        return len(json.loads(text))
