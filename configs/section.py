"""What every group of settings shares: strictness, and errors that name the key at fault.

No setting lives here, and no source of settings is read here.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Section", "SettingsError", "explain", "wrong"]

_CROSS_CHECK = "setting"
"""Error type of `wrong`: tells our own cross-checks from Pydantic's field checks."""


class Section(BaseModel):
    """A frozen group of settings that refuses keys it does not know."""

    # The input is hidden because it may be a secret.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class SettingsError(ValueError):
    """Settings that cannot be used.

    Args:
        problems: `(dotted key, what is wrong and what is allowed)`, at least one. The key is
            empty where the fault has none, as in a file that is not YAML.
    """

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{key}: {why}" if key else why for key, why in self.problems))

    @property
    def key(self) -> str | None:
        """The key at fault, if there is exactly one."""
        return self.problems[0][0] or None if len(self.problems) == 1 else None


def wrong(key: str, why: str) -> PydanticCustomError:
    """Make the error that a check over several fields raises.

    Args:
        key: Dotted path of the field at fault, from the model whose validator raises.
        why: What is wrong and what is allowed. Must not repeat a secret.
    """
    return PydanticCustomError(_CROSS_CHECK, "{why}", {"key": key, "why": why})


def explain(error: ValidationError, root: type[Section]) -> SettingsError:
    """Say in terms of dotted keys what Pydantic found wrong below `root`.

    Faults that only follow from others are left out: an unset key that would have been derived
    from a wrong one, and a section or list that is wrong because something inside it is.
    """
    details = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
    return SettingsError(
        (_key(detail), _reason(detail, root))
        for detail in details
        if not any(_is_within(other, detail) for other in details)
    )


def _is_within(inner: "ErrorDetails", outer: "ErrorDetails") -> bool:
    depth = len(outer["loc"])
    return len(inner["loc"]) > depth and inner["loc"][:depth] == outer["loc"]


def _key(detail: "ErrorDetails") -> str:
    path = [str(part) for part in detail["loc"]]
    if detail["type"] == _CROSS_CHECK:
        path.append(detail["ctx"]["key"])
    return ".".join(path)


def _reason(detail: "ErrorDetails", root: type[Section]) -> str:
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            known = _fields_at(root, detail["loc"][:-1])
            return f"unknown key; allowed here: {', '.join(known)}"
        case "string_type":
            return "must be text; put quotes around what YAML reads as something else"
        case "model_type" | "dict_type":
            return "must be a mapping of keys to values"
        case "tuple_type":
            return "must be a list"
    return re.sub(r"^\w+ should ", "must ", detail["msg"].removeprefix("Value error, "))


def _fields_at(root: type[Section], path: tuple[int | str, ...]) -> list[str]:
    """Return the field names of the section that a Pydantic location leads to."""
    section = root
    for part in path:
        if isinstance(part, str):  # an index stays within the list's one section type
            section = _section_of(section.model_fields[part].annotation)
    return list(section.model_fields)


def _section_of(annotation: object) -> type[Section]:
    """Return the one section inside `Section`, `Section | None` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = (part for part in getattr(annotation, "__args__", ()) if part not in (None, ...))
    return next(part for part in inner if isinstance(part, type) and issubclass(part, Section))
