"""What requests for a live prompt say, and what their responses do."""

from typing import Any

import httpx
import msgspec

from headstart.client.live_state import LiveState
from headstart.stages.errors import BadRequest, ProtocolViolation

__all__ = ["encodable", "session_of", "state_in"]


def session_of(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the wire's form of what `AsyncClient.live` takes."""
    named = ("model", "instructions", "messages", "tools", "private_cache")
    sampling = {name: value for name, value in fields.items() if name not in (*named, "livemind")}
    session = {name: fields[name] for name in named if name in fields}
    for name in ("messages", "tools"):
        if name in session:
            session[name] = session[name] or []
    if "livemind" in fields:
        session["mode"] = "lossless" if fields["livemind"] is None else "livemind"
        if fields["livemind"] is not None:
            session["livemind"] = fields["livemind"]
    return session | ({"sampling": sampling} if sampling else {})


def encodable(text: str) -> str:
    """Return a text that UTF-8 has bytes for.

    Raises:
        BadRequest: It is none.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest("the text has half a surrogate pair", param="text") from None
    return text


def state_in(response: httpx.Response) -> LiveState:
    """Return what a gateway says of a live prompt.

    Raises:
        ProtocolViolation: Whoever answers is no such gateway.
    """
    try:
        return msgspec.json.decode(response.content, type=LiveState)
    except (msgspec.MsgspecError, UnicodeError):
        raise ProtocolViolation("what answers is no gateway that knows live prompts") from None
