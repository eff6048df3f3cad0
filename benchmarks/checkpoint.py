"""What a long run has measured so far, in a file, so that a killed run goes on where it was."""

from pathlib import Path
from typing import Any

import msgspec

from headstart.stages.errors import SetupError

__all__ = ["Checkpoint"]


class Checkpoint:
    """A JSON Lines file: what the run is, then a line for each thing measured.

    Args:
        path: The file; made if it is not there.
        run: What the measured things depend on; a file of another run is refused.

    Raises:
        SetupError: The file belongs to another run, or is none of ours.
    """

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self._path = path
        self._found: dict[str, Any] = {}
        head = msgspec.json.encode({"run": run}, order="sorted")
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        whole = lines[:-1]  # what has no line break was being written when the run was killed
        if whole and whole[0] != head:
            raise SetupError(
                f"{path} is of another run (commit, plan, model or data differ): remove it, or "
                "check out what it was made with"
            )
        for line in whole[1:]:
            entry = msgspec.json.decode(line)
            self._found[entry["key"]] = entry["found"]
        self.num_resumed = len(self._found)
        """How many were there from the beginning."""
        path.write_bytes(b"".join(line + b"\n" for line in whole or [head]))

    def get(self, key: str, kind: Any) -> Any:
        """Return what was found under a name, or None."""
        found = self._found.get(key)
        return None if found is None else msgspec.convert(found, kind)

    def put(self, key: str, found: Any) -> None:
        """Keep what was found."""
        self._found[key] = msgspec.to_builtins(found)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode({"key": key, "found": self._found[key]}) + b"\n")

    def remove(self) -> None:
        """Forget it all: the run is over."""
        self._path.unlink(missing_ok=True)
