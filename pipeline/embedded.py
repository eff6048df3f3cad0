"""How many inputs one request for embeddings may have: each is a request of its own to the engine.

vLLM bounds the prompts of a completion by itself (`adapter.engine_environment`), but not these.
"""

import json

import msgspec

from headstart.stages.errors import BadRequest

__all__ = ["MAX_INPUTS", "check_inputs"]

MAX_INPUTS = 2048
"""OpenAI's own limit, which the batches of its clients keep to."""


class _Inputs(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw(b"null")
    messages: msgspec.Raw = msgspec.Raw(b"null")
    """vLLM's: one conversation, or a list of them."""


def check_inputs(body: bytes) -> None:
    """Refuse a body with too many inputs. One that cannot be read is left to the engine.

    Raises:
        BadRequest: There are too many, or the body is nested too deep.
    """
    try:
        counts = _counts(body)
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None
    for name, num in counts.items():
        if num > MAX_INPUTS:
            raise BadRequest(
                f"`{name}` holds {num} inputs; at most {MAX_INPUTS} are embedded at once",
                param=name,
            )


def _counts(body: bytes) -> dict[str, int]:
    try:
        asked = msgspec.json.decode(body, type=_Inputs)
    except msgspec.ValidationError:
        return {}  # no object
    except (msgspec.DecodeError, UnicodeDecodeError):
        asked = _read_loosely(body)
    return {name: _count(getattr(asked, name)) for name in _Inputs.__struct_fields__}


def _read_loosely(body: bytes) -> _Inputs:
    """Read what only Python's parser takes, as vLLM's app does."""
    try:
        tree = json.loads(body)
    except ValueError:
        return _Inputs()
    if not isinstance(tree, dict):
        return _Inputs()
    known = {name: tree[name] for name in _Inputs.__struct_fields__ if name in tree}
    return _Inputs(**{name: msgspec.Raw(json.dumps(value)) for name, value in known.items()})


def _count(value: msgspec.Raw) -> int:
    text = bytes(value)
    first = text[1:].lstrip()[:1]
    if text[:1] != b"[" or first.isdigit() or first == b"-":
        return 1  # a text, or the tokens of one
    try:
        return len(msgspec.json.decode(value, type=list[msgspec.Raw]))
    except msgspec.DecodeError:  # not a number to msgspec
        return len(json.loads(text))
