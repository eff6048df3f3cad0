"""Runs in every Python process of a watched daemon, before anything else.

Notes each process in `WATCH_FOLDER`, and each of our packages that is imported by its bare name,
from a folder that should not be on the path. Where `WATCH_FAIL` is in what an engine decodes, it
fails with an error that quotes it all.
"""

import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(os.environ["WATCH_FOLDER"])
FAIL = os.environ["WATCH_FAIL"]
ROOT = Path(__file__).parents[3]
OURS = {file.parent.name for file in ROOT.glob("*/__init__.py")}


class BareNames:
    """A finder that finds nothing, and notes who looks for what it should not."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in OURS and path is None:
            spec = PathFinder.find_spec(name)
            if spec is not None and Path(spec.origin or "").is_relative_to(ROOT):
                note("bare", f"{name} from {spec.origin}")
        return None


def note(kind: str, text: str) -> None:
    """Leave a file for the test to find."""
    (FOLDER / f"{kind}-{os.getpid()}").write_text(text)


def failing(text: Any, **options: Any) -> Any:
    """Decode JSON, or fail."""
    if FAIL in (text if isinstance(text, str) else bytes(text).decode(errors="replace")):
        raise RuntimeError(f"injected while reading {text!r}")
    return loads(text, **options)


loads = json.loads
json.loads = failing  # type: ignore[assignment]
sys.meta_path.insert(0, BareNames)
note("process", " ".join(sys.orig_argv))
