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
    for path in _checkpoints(out):
        try:  # the Trainer writes it last
            _state(path)
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return max(_checkpoints(out), key=_step, default=None)


def _checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob("checkpoint-*"), key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


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
        plan: What says when the run ends: `samples`, and `max_minutes` if not None.
        decay: Share of the run in which the learning rate falls.

    Raises:
        SetupError: The learning rate had begun to fall and nothing from before was kept, or by the
            plan it had to fall before the run came to know. Nothing is removed then.
    """
    note = out / "plan.json"
    found = last_checkpoint(out)
    kept = sorted(out.glob("kept/[0-9]*[0-9]"), key=samples_of)
    if note.exists() and json.loads(note.read_bytes()) != plan:
        fallen = [each for each in _checkpoints(out) if _last(_state(each), "share") > 1 - decay]
        had_one = found is not None
        found = next((each for each in _checkpoints(out)[::-1] if each not in fallen), None)
        found = max([*kept, *([found] if found else [])], key=samples_of, default=None)
        if had_one and found is None:
            raise SetupError(
                f"the learning rate of {out} has begun to fall, and no checkpoint from before is "
                "kept: a longer run needs another --out"
            )
        if found is not None:
            _check_reach(out, found, kept, plan, decay)
        for each in fallen:
            shutil.rmtree(each)
    elif kept and (found is None or samples_of(kept[-1]) > samples_of(found)):
        found = kept[-1]
    write_json(note, plan)
    return found


def _check_reach(
    out: Path, found: Path, kept: list[Path], plan: dict[str, Any], decay: float
) -> None:
    """Refuse a plan by which the learning rate should have begun to fall long ago."""

    def is_late(checkpoint: Path) -> bool:
        state = _state(checkpoint)
        # Up to a step: where the rate begins to fall lies between two of them.
        steps = max(0, int(state.get("global_step", 0)) - 1) / max(1, state.get("global_step", 1))
        shares = [_last(state, "samples") * steps / plan["samples"]]
        if plan.get("max_minutes"):
            shares.append(_last(state, "elapsed_s") * steps / 60 / plan["max_minutes"])
        return bool(max(shares) > 1 - decay)

    if not is_late(found):
        return
    early = [each for each in kept if not is_late(each)]
    then = f"another --out, and --start {early[-1]}" if early else "another --out"
    raise SetupError(
        f"{out} has seen {samples_of(found):,} samples, and in a run so short the learning rate "
        f"had to fall before: give {then}"
    )


def _state(checkpoint: Path) -> dict[str, Any]:
    return dict(json.loads((checkpoint / "trainer_state.json").read_bytes()))


def _last(state: dict[str, Any], name: str) -> float:
    return max((float(line.get(name, 0.0)) for line in state["log_history"]), default=0.0)
