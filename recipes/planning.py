"""What a run is to be: how long, a part of which other, and whether it is done already."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from headstart.recipes.checkpoints import samples_of
from headstart.recipes.learning import faster_dtype
from headstart.recipes.training import RunOptions, described
from headstart.stages.errors import SetupError

__all__ = ["check", "content_of", "identity", "planned", "result_of", "width_of", "with_dtype"]

Options = TypeVar("Options", bound=RunOptions)

_BUDGETS = (
    "max_samples",
    "max_minutes",
    "piece_minutes",
    "milestone",
    "start",
    "epochs",
    "save_minutes",
    "log_steps",
    "shard_bytes",
    "dry_run",
    "device",
    "data",
    "out",
)
"""Options that may differ when a run goes on: of the data, its content counts."""


_NO_DATA: Mapping[str, Any] = {}


def check(options: RunOptions, data: Mapping[str, Any] = _NO_DATA) -> None:
    """Refuse a budget that is none, and a beginning that was made otherwise.

    Args:
        data: What `content_of` says of what is trained on.

    Raises:
        SetupError: One of them is.
    """
    if not 0 < options.decay <= 1:
        raise SetupError("--decay is a share of the run: give more than 0, and at most 1")
    if options.start is None:
        return
    try:
        begun = json.loads((options.start.parent.parent / "run.json").read_bytes())
    except (OSError, ValueError) as error:
        raise SetupError(f"--start takes a folder in `kept` of a run: {error}") from error
    asked = identity(options, data)
    others = [n for n in asked if asked[n] != begun.get(n) and (n, asked[n]) != ("dtype", "auto")]
    if others:
        raise SetupError(f"{options.start} was made with other {', '.join(others)}: give the same")


def identity(options: RunOptions, data: Mapping[str, Any] = _NO_DATA) -> dict[str, Any]:
    """What has to be the same when a run goes on."""
    return {k: v for k, v in described(options).items() if k not in _BUDGETS} | dict(data)


def content_of(file: Path, num: int) -> dict[str, Any]:
    """Tell a file of samples from others, and from itself when it has grown.

    Each epoch's order is drawn over all samples: one more, and every one comes at another time.

    Args:
        num: Of samples in it.
    """
    with file.open("rb") as data:
        return {
            "num_samples": num,
            "samples_sha256": hashlib.file_digest(data, "sha256").hexdigest(),
        }


def with_dtype(options: Options, width: int, device: str) -> Options:
    """Settle what `auto` is, once for a run and all that begin with it.

    Args:
        width: Of the model's matrices.
    """
    if options.dtype != "auto":
        return options
    begun = [options.out, *([options.start.parent.parent] if options.start else [])]
    for folder in begun:
        if (folder / "run.json").exists():
            return replace(options, dtype=json.loads((folder / "run.json").read_bytes())["dtype"])
    return replace(options, dtype=faster_dtype(device, width))


def width_of(folder: Path) -> int:
    """Return the width of a model's matrices."""
    return int(json.loads((folder / "config.json").read_bytes()).get("hidden_size", 1024))


def planned(options: RunOptions, num_samples: int) -> int:
    """Return how many samples the run is made of."""
    if options.start is not None and options.max_samples is None:
        # The run that would have begun to bring its learning rate down just there.
        return round(samples_of(options.start) / max(1 - options.decay, 0.01))
    num = max(1, round(num_samples * options.epochs))
    return min(num, options.max_samples or num)


def result_of(options: RunOptions, num: int) -> dict[str, Any] | None:
    """Return the result that there is, unless the run has become longer."""
    try:
        before = dict(json.loads((options.out / "result.json").read_bytes()))
    except FileNotFoundError:
        return None
    if before["samples"] < before["planned"]:  # it was time that ended it
        limit, was = options.max_minutes, before["options"]["max_minutes"]
        return before if limit is not None and limit <= was else None
    return before if before["planned"] == num else None
