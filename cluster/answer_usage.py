"""Adds to the usage of an answer what speculation did for it.

By OpenAI's own names where they have some, so that its clients show it, and by ours.
"""

from typing import Any

import msgspec

from headstart.stages.speculation_counts import Speculated

__all__ = ["with_speculation"]

_USAGE = b'"usage":{'
"""In no text: quotes are escaped there."""


def with_speculation(api: str, payload: bytes, speculated: Speculated | None) -> bytes:
    """Return a chunk or a whole body, with the counts in its usage if it has one.

    Args:
        api: As `api_of` says; the Responses API has other names and is left as it is.
        speculated: None where nothing was drafted.
    """
    if speculated is None or api not in ("chat", "completion") or _USAGE not in payload:
        return payload
    try:
        tree = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        usage = msgspec.json.decode(tree["usage"], type=dict[str, Any])
    except (msgspec.DecodeError, KeyError):
        return payload  # the usage of something else
    usage["completion_tokens_details"] = (usage.get("completion_tokens_details") or {}) | {
        "accepted_prediction_tokens": speculated.accepted,
        "rejected_prediction_tokens": speculated.drafted - speculated.accepted,
    }
    usage["headstart"] = msgspec.structs.asdict(speculated)
    tree["usage"] = msgspec.Raw(msgspec.json.encode(usage))
    return msgspec.json.encode(tree)
