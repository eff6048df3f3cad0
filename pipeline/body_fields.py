"""The few fields of a request's body that the gateway itself reads, however it is written.

vLLM's app reads bodies with Python's parser, which takes what is not quite JSON: NaN, half a
surrogate pair, a byte order mark. What only that parser reads is read with it here too, or the
engine would see fields that the gateway has not.
"""

import json
from typing import Annotated, Any, Literal, get_args

import msgspec

from headstart.stages.errors import BadRequest
from headstart.stages.wish import wish_arguments

__all__ = ["Fields", "Options", "misfit", "read_fields"]

_LANGUAGE = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$"

_Mode = Literal["auto", "off", "copy", "jacobi", "drafter"]

_WANTED = {
    "headstart.speculation": f"one of {', '.join(get_args(_Mode))}",
    "headstart.language": "a tag such as `de` or `pt-BR`",
}
"""What msgspec does not say."""

_LOOSE_BYTES = 1 << 20
"""Longest body that is read by Python's parser where ours cannot: it takes up to 0.2 µs a byte,
twenty times as long, and all answers wait meanwhile."""

_NULL = msgspec.Raw(b"null")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body's `headstart` object: what a client may ask of us on top of OpenAI's API."""

    detach: bool = False
    """The answer outlives its connection and can be resumed."""
    timing: bool = False
    """The last chunk, or the body, says where the time went."""
    speculation: _Mode | None = None
    """How the answer is drafted; None leaves it to the model's settings."""
    language: Annotated[str, msgspec.Meta(pattern=_LANGUAGE)] | None = None
    """BCP 47 tag of the input, for whoever drafts by language; None has it looked for."""

    @property
    def engine_arguments(self) -> dict[str, str]:
        """What of it the engine's worker has to know."""
        return wish_arguments(self.speculation, self.language)


class Fields(msgspec.Struct):
    """What is read. Raw ones hold on to the body: let go of them before it is kept."""

    model: Any = None
    """What is no name is for the engine to refuse."""
    stream: Any = None
    headstart: Options | msgspec.UnsetType | None = msgspec.UNSET
    priority: Any = msgspec.UNSET
    """Not the client's to set: it would put itself before all others."""
    cache_salt: Any = None
    vllm_xargs: Any = None
    """Where vLLM takes arguments for its worker; ours are put beside the client's."""
    use_beam_search: Any = None
    min_p: Any = None
    logit_bias: Any = None
    seed: Any = None
    structured_outputs: msgspec.Raw = _NULL
    response_format: msgspec.Raw = _NULL
    text: msgspec.Raw = _NULL
    """Of `/v1/responses`."""
    input: msgspec.Raw = _NULL
    messages: msgspec.Raw = _NULL
    prompt: msgspec.Raw = _NULL


_RAW = tuple(field.name for field in msgspec.structs.fields(Fields) if field.type is msgspec.Raw)

_decoder = msgspec.json.Decoder(Fields)


def read_fields(body: bytes) -> Fields | None:
    """Return the fields that are ours; None if the engine will not be able to read any.

    Raises:
        BadRequest: `headstart` is malformed, or the body is nested too deep, or long and not quite
            JSON.
    """
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        if not body.lstrip().startswith(b"{"):
            return None
        raise BadRequest(misfit(error)) from error
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        if len(body) > _LOOSE_BYTES:
            raise BadRequest(
                f"a body of more than {_LOOSE_BYTES} bytes must be JSON to the letter: UTF-8, no "
                "NaN, no half of a surrogate pair"
            ) from None
        return _read_loosely(body)


def misfit(error: msgspec.ValidationError) -> str:
    """Return what does not fit, where it stands, and what would."""
    said = str(error)
    wanted = [what for field, what in _WANTED.items() if said.endswith(f"{field}`")]
    return ": give ".join([said, *wanted])


def _read_loosely(body: bytes) -> Fields | None:
    try:
        tree = json.loads(body)
        if not isinstance(tree, dict):
            return None
        _check_stops(tree)
        raw = {name: msgspec.Raw(json.dumps(tree[name])) for name in _RAW if name in tree}
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None
    except ValueError:
        return None
    # The others may have names that msgspec cannot take, and are none of our business.
    known = {name: tree[name] for name in Fields.__struct_fields__ if name in tree.keys() - raw}
    try:
        if isinstance(known.get("model"), str):
            known["model"].encode()
        return msgspec.structs.replace(msgspec.convert(known, Fields), **raw)
    except msgspec.ValidationError as error:
        raise BadRequest(misfit(error)) from error
    except ValueError as error:  # half a surrogate pair where msgspec wants text
        raise BadRequest("the gateway's own fields must be Unicode text") from error


def _check_stops(tree: dict[str, Any]) -> None:
    """Refuse what an answer shall stop at and that is no text: vLLM's app answers 500."""
    for name in ("stop", "bad_words"):
        try:
            json.dumps(tree.get(name), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadRequest(f"`{name}` must be Unicode text", param=name) from None
