"""What made weights, and of which: as a run's result says it, and a note beside the weights."""

import json
from pathlib import Path
from typing import Any

from headstart.cluster.merged_model import TRAINING

__all__ = ["known_places", "training_from", "training_of"]

_PATHS = ("data", "out", "adapter", "start")


def training_from(
    note: dict[str, Any], rank: int | None = None, energy_kept: float | None = None
) -> dict[str, Any]:
    """Return what made the weights of a run, without the paths of the machine that did.

    Args:
        note: The run's result.json.
        rank: Of the adapter that they became.
        energy_kept: Share of the change that fits it.
    """
    begun, options = note.get("begun_from"), note["options"]
    before = 0
    if begun is not None:
        # Rounds go on from those before; what taught the task itself, in between too, is none.
        own = begun["tokens"] if begun["options"]["method"] != "sft" else 0
        before = begun["tokens_before"] + own
    return {
        "base_weights": note.get("base_weights"),
        "block_tokens": note.get("collected", {}).get("block_tokens"),
        "samples": note["samples"],
        "tokens": note["tokens"],
        "tokens_before": before,
        "begun_from": begun,
        "minutes": round(note["elapsed_s"] / 60, 1),
        "machine": note["machine"],
        "rank": rank,
        "energy_kept": energy_kept,
        "options": {name: value for name, value in options.items() if name not in _PATHS},
    }


def training_of(folder: Path) -> dict[str, Any] | None:
    """Return what made an adapter, or a run's weights, where it is known."""
    try:
        if (folder / TRAINING).is_file():
            return dict(json.loads((folder / TRAINING).read_bytes()))
        return training_from(json.loads((folder.parent / "result.json").read_bytes()))
    except (OSError, ValueError, KeyError):
        return None


def known_places(source: str, adapter: Path | None, folder: Path) -> list[Path]:
    """Return where notes of weights may lie, the likeliest first.

    Args:
        source: Of the model, as it was given.
        adapter: Of the model, if one was given.
        folder: As both are loaded.
    """
    given = adapter or Path(source).expanduser()
    return [*([given.resolve()] if given.is_dir() else []), folder]
