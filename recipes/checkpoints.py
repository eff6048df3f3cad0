"""Checkpoints on disk: the newest, those that are kept, and whether one may be gone on from.

A checkpoint from before the learning rate began to fall is the beginning of every longer run. Those
lie in `kept`, by the samples that had been seen; what comes after is of one run alone.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from headstart.recipes.samples import write_json
from headstart.stages.errors import SetupError

__all__ = ["keep", "last_checkpoint", "resumable", "samples_of"]


def last_checkpoint(out: Path) -> Path | None:
    """Return the newest whole checkpoint, and remove those that a kill left unfinished."""
    found = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = None
    for path in found:
        try:  # the Trainer writes it last
            _state(path)
            whole = path
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return whole


def keep(out: Path, step: int, samples: int) -> None:
    """Keep a checkpoint that the Trainer will remove, without a second copy where disks can."""
    target = out / "kept" / str(samples)
    partial = target.with_name(f"{samples}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(out / f"checkpoint-{step}", partial, copy_function=_link)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def samples_of(checkpoint: Path) -> int:
    """Return how many samples had been seen.

    Raises:
        SetupError: There is no whole checkpoint.
    """
    try:
        return int(_last(_state(checkpoint), "samples"))
    except (OSError, ValueError) as error:
        raise SetupError(f"{checkpoint} is no whole checkpoint: take one of RUN/kept") from error


def resumable(out: Path, plan: dict[str, Any], decay: float) -> Path | None:
    """Return the checkpoint that a run goes on from, if there is one.

    Where the plan is another than before, checkpoints from after the learning rate began to fall
    are removed: going on from the one before, the run becomes what it would have been.

    Args:
        plan: What says when the run ends.
        decay: Share of the run in which the learning rate falls.

    Raises:
        SetupError: The learning rate had begun to fall, and nothing from before was kept.
    """
    note = out / "plan.json"
    found = last_checkpoint(out)
    had_one = found is not None
    if note.exists() and json.loads(note.read_bytes()) != plan:
        while found is not None and _last(_state(found), "share") > 1 - decay:
            shutil.rmtree(found)
            found = last_checkpoint(out)
    kept = sorted(out.glob("kept/[0-9]*[0-9]"), key=samples_of)
    if kept and (found is None or samples_of(kept[-1]) > samples_of(found)):
        found = kept[-1]
    if had_one and found is None:
        raise SetupError(
            f"the learning rate of {out} has begun to fall, and no checkpoint from before is kept: "
            "a longer run needs another --out"
        )
    write_json(note, plan)
    return found


def _state(checkpoint: Path) -> dict[str, Any]:
    return dict(json.loads((checkpoint / "trainer_state.json").read_bytes()))


def _last(state: dict[str, Any], name: str) -> float:
    return max((float(line.get(name, 0.0)) for line in state["log_history"]), default=0.0)
