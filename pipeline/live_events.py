"""What a live prompt's client says, as events: of the WebSocket, and in the bodies of HTTP."""

from typing import Annotated, Any, Literal

import msgspec

from headstart.pipeline.body_fields import misfit
from headstart.pipeline.errors import live_error
from headstart.stages.errors import HeadstartError, LiveConflict, LiveRefused
from headstart.stages.mind_events import AtCommit
from headstart.stages.mind_prompt import Format
from headstart.stages.prompt_document import EditError
from headstart.stages.segmenter import Granularity
from headstart.stages.thoughts import BASIC_ACTIONS, Kind

__all__ = [
    "Append",
    "Cancel",
    "Clear",
    "Close",
    "Commit",
    "CommitBody",
    "EditEvent",
    "Edits",
    "InEvent",
    "MindConfig",
    "Mode",
    "Replace",
    "SessionConfig",
    "SessionUpdate",
    "decode",
    "error_event",
    "event_id_of",
    "in_progress",
    "read_body",
    "refusal",
]

MAX_EDITS = 1024
"""Of one request: each may copy the whole text, and everybody else waits until all are made."""
UNSET = msgspec.UNSET
Unset = msgspec.UnsetType
Mode = Literal["lossless", "livemind"]


class MindConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model thinks about the text while it is written; what is left out is as here."""

    thinker: str | None = None
    """The served name of the model that thinks; None is the one that answers."""
    format: Format = Format.UA_SPI
    actions: tuple[Kind, ...] = BASIC_ACTIONS
    segments: Granularity = Granularity.SENTENCE
    language: Annotated[str, msgspec.Meta(pattern="^([A-Za-z]{2,3}|auto)$")] = "en"
    """Of the text, for whoever cuts it: ISO 639, or `auto` where the text shall tell."""
    at_commit: AtCommit = AtCommit.CANCEL
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Of one thought; None is the most that the gateway allows."""
    show_thoughts: bool = False
    """Whether `input_text.reasoning` events tell what was thought."""


class SessionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What comes before the text, and how it is to be answered; what is left out stays."""

    model: str | Unset = UNSET
    instructions: str | Unset | None = UNSET
    """The system message."""
    messages: list[dict[str, Any]] | Unset = UNSET
    """The conversation so far, without the text."""
    tools: list[dict[str, Any]] | Unset = UNSET
    sampling: dict[str, Any] | Unset = UNSET
    """Further fields of a chat request: `temperature`, `max_tokens`, `tool_choice` and so on."""
    mode: Mode | Unset = UNSET
    livemind: MindConfig | Unset = UNSET
    """How to think, with `mode: livemind`."""
    private_cache: bool | Unset = UNSET
    """Whether no other request finds in a cache what is computed for this session."""


class _Event(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    event_id: str | None = None
    """The client's own, given back with an error."""


class SessionUpdate(_Event, frozen=True, tag="session.update", kw_only=True):
    session: SessionConfig


class Append(_Event, frozen=True, tag="input_text.append", kw_only=True):
    text: str
    version: int | None = None
    """Of the text that the client has seen; None if it does not mind."""


class Replace(_Event, frozen=True, tag="input_text.replace", kw_only=True):
    """Positions count code points."""

    start: int
    end: int
    text: str
    version: int | None = None


class Clear(_Event, frozen=True, tag="input_text.clear", kw_only=True):
    version: int | None = None


class Commit(_Event, frozen=True, tag="input_text.commit", kw_only=True):
    version: int | None = None


class Cancel(_Event, frozen=True, tag="response.cancel"):
    """Stop the answer."""


class Close(_Event, frozen=True, tag="session.close"):
    """End the session and forget its text."""


EditEvent = Append | Replace | Clear
EditList = Annotated[list[EditEvent], msgspec.Meta(max_length=MAX_EDITS)]
InEvent = SessionUpdate | EditEvent | Commit | Cancel | Close


class Edits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `PATCH /v1/live/{id}`: a change of the session, then edits, in order."""

    session: SessionConfig | None = None
    edits: EditList = []


class CommitBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/live/{id}/commit`: the last edits may come with it."""

    version: int | None = None
    """Of the text with all of them; None if the client does not mind."""
    edits: EditList = []
    """Each names its version: those that were made already are not made again."""
    sha256: str | None = None
    """In hexadecimal digits, of the text in UTF-8 that the client means to send off."""


class _Type(msgspec.Struct):
    type: Any = None
    event_id: Any = None


_decoder = msgspec.json.Decoder(InEvent)
_type_decoder = msgspec.json.Decoder(_Type)
_TYPES = frozenset(
    str(kind.__struct_config__.tag)
    for kind in (SessionUpdate, Append, Replace, Clear, Commit, Cancel, Close)
)


def decode(data: str | bytes) -> InEvent:
    """Read one event.

    Raises:
        LiveRefused: It is none.
    """
    try:
        event: InEvent = _decoder.decode(data)
    except msgspec.ValidationError as error:
        if (name := _head(data).type) not in _TYPES and isinstance(name, str):
            raise LiveRefused(
                "no event of this type is known", param="type", code="unknown_event"
            ) from None
        raise LiveRefused(misfit(error), code="invalid_event") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise LiveRefused("the event is not JSON in UTF-8", code="invalid_event") from None
    return event


def event_id_of(data: str | bytes) -> str | None:
    """Return the client's own id of an event that could not be taken, if it can be read."""
    found = _head(data).event_id
    return found if isinstance(found, str) else None


def read_body(data: bytes, kind: type[Any]) -> Any:
    """Read the body of a request; an empty one is an empty object.

    Raises:
        LiveRefused: It does not fit.
    """
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise LiveRefused(misfit(error), code="invalid_body") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise LiveRefused("the body is not JSON in UTF-8", code="invalid_body") from None


def refusal(error: EditError) -> LiveRefused:
    """Say why an edit was refused."""
    if error is EditError.OUT_OF_RANGE:
        return LiveRefused("the range is not within the text", param="start", code=error.value)
    return LiveRefused("the session would hold too much text", param="text", code=error.value)


def in_progress() -> LiveConflict:
    """Say that there is an answer in the making."""
    return LiveConflict(
        "an answer is being made: cancel it or wait for its end", code="response_in_progress"
    )


def error_event(error: HeadstartError, event_id: str | None) -> dict[str, Any]:
    """Return the event that tells of an error."""
    return {"type": "error", "error": live_error(error) | {"event_id": event_id}}


def _head(data: str | bytes) -> _Type:
    try:
        return _type_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _Type()
