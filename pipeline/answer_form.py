"""How much a request may say about the form of its answer.

The engine compiles a grammar, a choice or a schema before the answer begins, for seconds where it
is a few hundred kilobytes, and cannot be stopped: every other request with one waits meanwhile.
"""

import json
from typing import Any

import msgspec

from headstart.stages.errors import BadRequest

__all__ = ["MAX_FORM_BYTES", "check_form", "check_loose_form"]

MAX_FORM_BYTES = 64 * 1024


class _Form(msgspec.Struct):
    structured_outputs: msgspec.Raw = msgspec.Raw(b"null")
    response_format: msgspec.Raw = msgspec.Raw(b"null")
    text: msgspec.Raw = msgspec.Raw(b"null")
    """Of `/v1/responses`."""


_decoder = msgspec.json.Decoder(_Form)


def check_form(body: bytes) -> None:
    """Refuse a body that says too much. One that is not JSON to the letter is left alone.

    Raises:
        BadRequest: It does.
    """
    if len(body) <= MAX_FORM_BYTES:
        return
    try:
        form = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for name in _Form.__struct_fields__:
        _check(name, len(bytes(getattr(form, name))))


def check_loose_form(tree: dict[str, Any]) -> None:
    """Refuse a body that Python's parser has read, and that says too much.

    Raises:
        BadRequest: It does, or what the answer shall stop at is no text.
        RecursionError: A field is nested deeper than Python can write.
    """
    for name in _Form.__struct_fields__:
        _check(name, len(json.dumps(tree.get(name))))
    for name in ("stop", "bad_words"):
        try:
            json.dumps(tree.get(name), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadRequest(f"`{name}` must be Unicode text", param=name) from None


def _check(name: str, size: int) -> None:
    if size > MAX_FORM_BYTES:
        raise BadRequest(
            f"`{name}` has {size} bytes; an answer's form is described in at most {MAX_FORM_BYTES}",
            param=name,
        )
