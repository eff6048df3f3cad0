"""Where settings come from: one YAML file < the environment < flags, merged into one plain tree.

`HEADSTART_GATEWAY__PORT=8001` and `--set gateway.port=8001` are the same assignment, and their
values are YAML like the file's. A list item is named by its index or by its `name`. Nothing
else reads `HEADSTART_` variables; what the values may be is `settings.py`'s business.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.configs import yaml_text
from headstart.configs.section import SettingsError

__all__ = ["ENV_PREFIX", "Assignment", "assign", "from_environment", "from_flags", "read_file"]

ENV_PREFIX = "HEADSTART_"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One key set outside the file."""

    keys: tuple[str, ...]
    value: object
    origin: str
    """What the user wrote, without the value: it may be a secret."""

    @property
    def key(self) -> str:
        return ".".join(self.keys)


def read_file(path: Path) -> dict[str, object]:
    """Read a settings file.

    Raises:
        SettingsError: It is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        tree = yaml_text.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            [("", f"cannot read settings file {path}: {error.strerror}")]
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError([("", f"{path} is not YAML: {error}")]) from error
    except yaml_text.YamlFault as error:
        at = path if error.line is None else f"{path}:{error.line}"
        raise SettingsError([("", f"{at} is not YAML: {error.why}")]) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError([("", f"{path} must hold a mapping of keys to values")])
    return tree


def from_environment(
    top_level: Collection[str], environ: Mapping[str, str] | None = None
) -> list[Assignment]:
    """Return the assignments in the environment, outer keys first.

    A name with `__` after the prefix must be a setting; one without is taken only if it is a
    top-level key, because Kubernetes sets `HEADSTART_PORT` and the like for a service of that name.
    """
    found = []
    for name, text in (os.environ if environ is None else environ).items():
        rest = name.removeprefix(ENV_PREFIX).lower()
        if name.startswith(ENV_PREFIX) and ("__" in rest or rest in top_level):
            found.append(_parse(name, rest.split("__"), text))
    return sorted(found, key=lambda assignment: (len(assignment.keys), assignment.key))


def from_flags(overrides: Iterable[str]) -> list[Assignment]:
    """Parse `a.b=value` flags, in order.

    Raises:
        SettingsError: One has no `=`, an empty key, or a value that is not YAML.
    """
    found = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise SettingsError([(key, "--set takes key=value")])
        found.append(_parse(f"--set {key}", key.split("."), text))
    return found


def assign(tree: object, assignment: Assignment) -> object:
    """Return a copy of `tree` with one key set, replacing whatever was there.

    Raises:
        SettingsError: The path runs through a plain value or past the end of a list.
    """
    return _put(tree, assignment.keys, assignment)


def _parse(origin: str, keys: Sequence[str], text: str) -> Assignment:
    key = ".".join(keys)
    if not all(keys):
        raise SettingsError([(key, f"{origin} has an empty part in its key")])
    try:
        value = yaml_text.parse(text)
    except yaml_text.YamlFault:
        # Without the parser's words: they quote the value. Not chained for the same reason.
        raise SettingsError([(key, f"the value of {origin} is not YAML; quote it")]) from None
    return Assignment(tuple(keys), value, origin)


def _put(node: object, keys: tuple[str, ...], assignment: Assignment) -> object:
    if not keys:
        return assignment.value
    if isinstance(node, list):
        index, rest = _find(node, keys, assignment)
        return [*node[:index], _put(node[index], rest, assignment), *node[index + 1 :]]
    if node is None or isinstance(node, dict):
        branch = node or {}
        return {**branch, keys[0]: _put(branch.get(keys[0]), keys[1:], assignment)}
    parent = ".".join(assignment.keys[: -len(keys)])
    raise SettingsError([(assignment.key, f"{parent} is a plain value, with no keys below it")])


def _find(
    items: list[object], keys: tuple[str, ...], assignment: Assignment
) -> tuple[int, tuple[str, ...]]:
    """Return the index of the item that `keys` starts with, and the keys after it."""
    if keys[0].isdecimal() and int(keys[0]) < len(items):
        return int(keys[0]), keys[1:]
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    for used in range(1, len(keys) + 1):  # a model's name may itself have dots
        name = ".".join(keys[:used])
        if name in names:
            return names.index(name), keys[used:]
    known = ", ".join(
        f"{index} ({name})" if name else str(index) for index, name in enumerate(names)
    )
    raise SettingsError([(assignment.key, f"no item {keys[0]!r}; there are: {known or 'none'}")])
