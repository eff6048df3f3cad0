"""From a drafter's source in the settings to its file: one on this machine, or one of ours."""

from pathlib import Path

from headstart.configs.fields import BUILTIN
from headstart.stages.errors import SetupError

__all__ = ["DRAFTERS", "table_file"]

DRAFTERS = Path(__file__).with_name("drafters")
"""Folders of drafters of ours, as `headstart recipe drafter export` writes them, by their names."""


def table_file(source: Path, language: str) -> Path:
    """Return the file of an n-gram table; whether there is one at a path is not looked at.

    Args:
        source: As `speculation.tables` in the settings.
        language: That it is of.

    Raises:
        SetupError: None of ours has the name.
    """
    if not str(source).startswith(BUILTIN):
        return source
    name = str(source).removeprefix(BUILTIN)
    ours = {table.parent.name: table for table in sorted(DRAFTERS.glob(f"*/{language}.table"))}
    if name not in ours:
        is_there = any((DRAFTERS / name).glob("*.table"))
        of = (
            f"{name} is of another language than {language}"
            if is_there
            else (f"There is no built-in table {name!r} of {language}")
        )
        raise SetupError(
            f"{of}: choose "
            + (f"one of {', '.join(ours)}, or give a file." if ours else "a file, there is none.")
        )
    return ours[name]
