"""What a request asks for of speculation, and under which names it travels through the engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstart.stages.drafting import Source

__all__ = ["Wish", "wish_arguments"]

_MODE = "headstart_speculation"
_LANGUAGE = "headstart_language"

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
        mode, language = arguments.get(_MODE), arguments.get(_LANGUAGE)
        if not (isinstance(mode, str) and mode in _MODES):
            mode = default
        return cls(mode, language if isinstance(language, str) else None)


def wish_arguments(mode: str | None = None, language: str | None = None) -> dict[str, str]:
    """Return what `Wish.of` reads, of a request that leaves open what is None."""
    wanted = {_MODE: mode, _LANGUAGE: language}
    return {name: value for name, value in wanted.items() if value is not None}
