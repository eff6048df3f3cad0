"""How much a request may say about the form of its answer.

The engine compiles a grammar, a choice or a schema before the answer begins, for seconds where it
is a few hundred kilobytes, and cannot be stopped: every other request with one waits meanwhile.
"""

import json

from headstart.pipeline.body_fields import Fields
from headstart.stages.errors import BadRequest

__all__ = ["MAX_FORM_BYTES", "MAX_PATTERN_CHARS", "check_form"]

MAX_FORM_BYTES = 64 * 1024

MAX_PATTERN_CHARS = 2048
"""Of one regular expression: what costs is its length, not what it repeats. A row of 50 `[^x]*`
took a core 0.2 s, of 100 0.9 s; after 5 s vLLM gives up, and leaves its thread to go on."""

_NAMES = ("structured_outputs", "response_format", "text")


def check_form(fields: Fields) -> None:
    """Refuse a request that says too much, or not at all what vLLM can read.

    Raises:
        BadRequest: It does.
    """
    for name in _NAMES:
        value = getattr(fields, name)
        if (size := memoryview(value).nbytes) > MAX_FORM_BYTES:
            raise BadRequest(
                f"`{name}` has {size} bytes; an answer's form is described in at most "
                f"{MAX_FORM_BYTES}",
                param=name,
            )
        text = bytes(value)
        if name == "structured_outputs" and text[:1] not in (b"{", b"n"):
            raise BadRequest(f"`{name}` must be an object", param=name)
        if len(text) > MAX_PATTERN_CHARS:
            _check_patterns(name, text)


def _check_patterns(name: str, value: bytes) -> None:
    try:
        rest = [json.loads(value)]
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None
    except ValueError:
        return  # which the engine, with the same parser, cannot read either
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            for key in ("regex", "pattern"):
                pattern = node.get(key)
                if isinstance(pattern, str) and len(pattern) > MAX_PATTERN_CHARS:
                    raise BadRequest(
                        f"a regular expression in `{name}` has {len(pattern)} characters; at most "
                        f"{MAX_PATTERN_CHARS} are compiled",
                        param=name,
                    )
            rest += node.values()
        elif isinstance(node, list):
            rest += node
