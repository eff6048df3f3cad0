"""Options of a recipe's steps: a frozen dataclass is the one list, flags are made from it."""

import argparse
import dataclasses
import math
import re
import types
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from headstart.stages.errors import SetupError

__all__ = ["add_flags", "from_flags", "option"]

T = TypeVar("T")


def option(
    help: str,
    default: Any = dataclasses.MISSING,
    choices: tuple[str, ...] = (),
    *,
    least: float = 0,
    most: float = math.inf,
    form: str | None = None,
) -> Any:
    """A field with its description; without a default it has to be given.

    Args:
        least: That a number, or each of several, may be.
        most: That it may be.
        form: Regular expression of the whole of a text.
    """
    bounds = {"least": least, "most": most, "form": form}
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, **bounds})


def add_flags(parser: argparse.ArgumentParser, kind: type) -> None:
    """Give a parser a flag for each field of a dataclass."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = f"--{field.name.replace('_', '-')}"
        hint = hints[field.name]
        said: dict[str, Any] = {"help": field.metadata["help"], "dest": field.name}
        is_required = field.default is dataclasses.MISSING
        if hint is bool:
            parser.add_argument(name, action="store_true", **said)
            continue
        if get_origin(hint) is types.UnionType:
            hint = get_args(hint)[0]
        if get_origin(hint) is tuple:
            hint = get_args(hint)[0]
            said["nargs"] = "+"
        said["type"] = hint
        said["metavar"] = {Path: "PATH", int: "N", float: "X"}.get(hint, "NAME")
        if field.metadata["choices"]:
            said["choices"] = field.metadata["choices"]
            said["metavar"] = None
        if is_required:
            said["required"] = True
        elif field.default not in (None, ()):
            default = field.default
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            said["help"] += f" (default: {shown})".replace("%", "%%")
        parser.add_argument(name, default=None if is_required else field.default, **said)


def from_flags(kind: type[T], args: argparse.Namespace) -> T:
    """Return the dataclass that the flags say.

    Raises:
        SetupError: A number is out of its bounds, or a text of another form.
    """
    given = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        said = getattr(args, field.name)
        for each in said if isinstance(said, list) else [said]:
            _check(field, each)
        given[field.name] = tuple(said) if isinstance(said, list) else said
    return kind(**given)


def _check(field: "dataclasses.Field[Any]", said: Any) -> None:
    flag, bounds = f"--{field.name.replace('_', '-')}", field.metadata
    if isinstance(said, int | float) and not bounds["least"] <= said <= bounds["most"]:
        most = "or more" if math.isinf(bounds["most"]) else f"to {bounds['most']:g}"
        raise SetupError(f"{flag} takes {bounds['least']:g} {most}, not {said}")
    if bounds["form"] and isinstance(said, str) and not re.fullmatch(bounds["form"], said):
        raise SetupError(f"{flag} takes a code such as de or pt-BR, not {said!r}")
