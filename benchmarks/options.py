"""What `headstart bench` tells every benchmark, beside the settings."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["BenchOptions"]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """The flags of `headstart bench`."""

    json_path: Path
    """Where the result goes, in the form of DESIGN §5."""
    is_quick: bool = False
    """End within eight minutes; bars that a small sample cannot decide stay `not_measured`."""
    data_dir: Path | None = None
    """Folder with the public data sets; None leaves what needs them `not_measured`."""
