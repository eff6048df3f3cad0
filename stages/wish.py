"""What a request asks for of speculation, and under which names it travels through the engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstart.stages.drafting import Source

__all__ = ["LANGUAGE_ARGUMENT", "SPECULATION_ARGUMENT", "Wish"]

SPECULATION_ARGUMENT = "headstart_speculation"
LANGUAGE_ARGUMENT = "headstart_language"

_MODES = ("off", "auto", *(source for source in Source if source is not Source.MODEL))


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for: a mode (`off`, `auto` or a source) and the input's language."""

    mode: str
    language: str | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any] | None, default: str) -> "Wish":
        """Read the wish of a request from its extra arguments; what is no mode is the default."""
        arguments = arguments or {}
        mode, language = arguments.get(SPECULATION_ARGUMENT), arguments.get(LANGUAGE_ARGUMENT)
        if not (isinstance(mode, str) and mode in _MODES):
            mode = default
        return cls(mode, language if isinstance(language, str) else None)
