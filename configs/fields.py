"""The types of single settings that more than one section has, or that need care.

A type here knows how to check and print one value; what the value is for is its section's business.
"""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, SecretStr, SerializationInfo

__all__ = [
    "BUILTIN",
    "MAX_PORT",
    "MIB",
    "File",
    "FileOrBuiltin",
    "Folder",
    "Port",
    "Secret",
    "default_cache_dir",
]

MIB = 1 << 20

SECRET = re.compile(r"[A-Za-z0-9+/=_.~-]{16,}")
"""Base64, hex and URL-safe tokens: nothing that YAML or a shell would read as something else."""

MAX_PORT = 65535

BUILTIN = "builtin:"
"""Before the name of what comes with Headstart."""

Port = Annotated[int, Field(ge=0, le=MAX_PORT)]


def _absolute(path: Path) -> Path:
    """Fix the path now: child processes and Ray workers have other working directories."""
    return path.expanduser().absolute()


def _absolute_unless_builtin(path: Path) -> Path:
    return path if str(path).startswith(BUILTIN) else _absolute(path)


def default_cache_dir() -> Path:
    """Return the folder that the XDG convention gives a program for its cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _absolute(Path(base) / "headstart")


def _check_secret(secret: SecretStr) -> SecretStr:
    if not SECRET.fullmatch(secret.get_secret_value()):
        raise ValueError(
            "must be at least 16 letters, digits or +/=_.~- (try: openssl rand -hex 32)"
        )
    return secret


def _serialise_secret(secret: SecretStr, info: SerializationInfo[dict[str, bool] | None]) -> str:
    is_revealed = info.context is not None and info.context.get("reveal_secrets", False)
    return secret.get_secret_value() if is_revealed else str(secret)


Folder = Annotated[Path, AfterValidator(_absolute)]
File = Annotated[Path, AfterValidator(_absolute)]
FileOrBuiltin = Annotated[Path, AfterValidator(_absolute_unless_builtin)]
Secret = Annotated[
    SecretStr,
    AfterValidator(_check_secret),
    PlainSerializer(_serialise_secret, return_type=str, when_used="json"),
]
