"""A training run, from its data to a result in the output folder."""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainerCallback

from headstart.recipes.budget import Budget
from headstart.recipes.checkpoints import resumable
from headstart.recipes.disk import check_disk, disk_faults
from headstart.recipes.models import device_of, machine
from headstart.recipes.pieces import cut
from headstart.recipes.planning import identity, result_of
from headstart.recipes.plots import plot_metrics
from headstart.recipes.samples import claim, write_json
from headstart.recipes.training import RunOptions, RunTrainer, arguments, described, looks_of
from headstart.stages.errors import SetupError

__all__ = ["Job", "carry_out"]

T = TypeVar("T")

_ADAM_BYTES = 12
"""Weight, and both moments, of each trained number in a checkpoint."""
_RESULT_BYTES = 4
_REHEARSED_STEPS = 3


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained on what, and how its result is written."""

    options: RunOptions
    """Its dtype settled."""
    model: Any
    dataset: Any
    """Items by number, as many as are planned."""
    trainer: Callable[..., RunTrainer]
    result: str
    """Name of the result's folder."""
    save: Callable[[Any, Path], None]
    """Writes the trained model to a folder."""
    facts: Callable[[int], dict[str, Any]] = lambda _: {}
    """From how many samples were seen to what else is noted."""
    computing: Callable[[], AbstractContextManager[None]] = nullcontext
    """What training happens in."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What `planning.content_of` says of the samples."""
    held_out: Any = None
    """Items that are not trained on, whose losses are told at each checkpoint."""


def carry_out(job: Job) -> dict[str, Any]:
    """Train, or go on, in this process; returns what is noted in the output folder's result.json.

    Raises:
        SetupError: Memory or disk are not fit, or the loss is no number.
    """
    options, num = job.options, len(job.dataset)
    device = device_of(options.device)
    job.model.train()
    trained = sum(each.numel() for each in job.model.parameters() if each.requires_grad)
    if options.dry_run:
        return _rehearse(job, device, trained)
    with disk_faults(options.out):
        done, checkpoint = _by_the_first(lambda: _beginning(job, trained))
    if done is not None:
        return done
    trainer = _trainer(job, options, device, options.out)
    with disk_faults(options.out), job.computing():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if not trainer.is_world_process_zero():
            return {}
        if trainer.budget.is_paused:
            return _progress(trainer, num) | {"is_paused": True}
        return _finish(job, trainer)


def _beginning(job: Job, trained: int) -> tuple[dict[str, Any] | None, Path | None]:
    """Make the output folder this run's; returns its result if it has ended, or where to go on."""
    options, num = job.options, len(job.dataset)
    claim(options.out, identity(options, job.data))
    _check_disk(options, num, trained)
    if (done := result_of(options, num)) is not None:
        return done, None
    plan = {"samples": num, "max_minutes": options.max_minutes}
    checkpoint = resumable(options.out, plan, options.decay) or options.start
    # A result of what was to be shorter is none of this run.
    (options.out / "result.json").unlink(missing_ok=True)
    return None, checkpoint


def _by_the_first(do: Callable[[], T]) -> T:
    """Have the first worker do something with the output folder, and all know what came of it.

    Raises:
        SetupError: It was refused.
    """
    if not torch.distributed.is_initialized():
        return do()
    found: list[Any] = [None, None]
    if torch.distributed.get_rank() == 0:
        try:
            found[0] = do()
        except SetupError as error:
            found[1] = error.message
    torch.distributed.broadcast_object_list(found, 0)
    if found[1] is not None:
        raise SetupError(found[1])
    return found[0]  # type: ignore[no-any-return]


def _check_disk(options: RunOptions, num: int, trained: int) -> None:
    """Count the checkpoints that a run still makes, and its result."""
    kept = 1  # where the learning rate begins to fall
    if options.milestone:
        kept += int(math.log2(max(1, num / options.milestone))) + (num >= options.milestone)
    there = len([*options.out.glob("checkpoint-*"), *options.out.glob("kept/*")])
    left = max(1, 2 + kept - there)
    needed = left * _ADAM_BYTES * trained + _RESULT_BYTES * trained
    instead = "train fewer weights (a LoRA adapter, a smaller drafter)"
    check_disk(options.out, needed, f"{left} checkpoints and the result", instead)


def _trainer(job: Job, options: RunOptions, device: str, out: Path, steps: int = 0) -> RunTrainer:
    workers = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    per_step = options.batch * options.accumulate * workers
    steps = steps or -(-len(job.dataset) // per_step)
    minutes, piece = options.max_minutes, options.piece_minutes
    budget = Budget(
        num_steps=steps,
        samples_per_step=per_step,
        warm_up=options.warm_up,
        decay=options.decay,
        max_s=minutes and minutes * 60,
        piece_s=piece and piece * 60,
        save_s=options.save_minutes * 60,
        milestone=options.milestone,
    )
    return job.trainer(
        options=options,
        budget=budget,
        model=job.model,
        args=arguments(options, out, steps, device),
        train_dataset=job.dataset,
        eval_dataset=None if options.dry_run else job.held_out,
    )


def _progress(trainer: RunTrainer, num: int) -> dict[str, Any]:
    history = trainer.state.log_history
    return {
        "planned": num,
        "samples": int(min(num, max(line.get("samples", 0) for line in history))),
        "tokens": max(line.get("tokens", 0) for line in history),
        "steps": trainer.state.global_step,
        "elapsed_s": max(line.get("elapsed_s", 0.0) for line in history),
        "last": next(line for line in reversed(history) if "autoregressive" in line),
        "held_out": next((looks[-1] for looks in [looks_of(history)] if looks), None),
    }


def _finish(job: Job, trainer: RunTrainer) -> dict[str, Any]:
    options = job.options
    partial, result = options.out / f"{job.result}.partial", options.out / job.result
    shutil.rmtree(partial, ignore_errors=True)
    job.save(trainer.accelerator.unwrap_model(trainer.model), partial)
    shutil.rmtree(result, ignore_errors=True)
    partial.rename(result)
    plot_metrics(trainer.state.log_history, options.out / "training.png")
    if options.shard_bytes:
        cut(result, options.out / "pieces", options.shard_bytes)
    packages = ("torch", "transformers", "peft", "accelerate")
    progress = _progress(trainer, len(job.dataset))
    note = {
        "result": job.result,
        "options": described(options),
        "data": dict(job.data),
        **progress,
        **job.facts(progress["samples"]),
        "versions": {each: _version(each) for each in packages},
        "device": str(trainer.args.device),
        "machine": machine(device_of(options.device)),
    }
    write_json(options.out / "result.json", note)
    return note


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


class _Laps(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.ends.append(time.monotonic())


def _rehearse(job: Job, device: str, trained: int) -> dict[str, Any]:
    """Time steps, the first one left out, and say what the run would take."""
    import tempfile

    options, num = job.options, len(job.dataset)
    laps = _Laps()
    with tempfile.TemporaryDirectory() as folder:
        short = replace(options, log_steps=1, max_minutes=None, piece_minutes=None, milestone=None)
        trainer = _trainer(job, short, device, Path(folder), steps=_REHEARSED_STEPS)
        trainer.add_callback(laps)
        with disk_faults(options.out), job.computing():
            trainer.train()
    _check_disk(options, num, trained)
    step_s = (laps.ends[-1] - laps.ends[0]) / (len(laps.ends) - 1)
    per_step = trainer.budget.samples_per_step
    tokens = [line["tokens"] for line in trainer.state.log_history if "tokens" in line]
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _resident_bytes()
    return {
        "samples": num,
        "trained_parameters": trained,
        "dtype": options.dtype,
        "seconds_a_step": round(step_s, 2),
        "tokens_a_second": round((max(tokens) - tokens[0]) / (step_s * (len(laps.ends) - 1))),
        "minutes_for_all": round(step_s * num / per_step / 60, 1),
        "samples_in_time": (
            None
            if options.max_minutes is None
            else int(min(num, options.max_minutes * 60 / step_s * per_step))
        ),
        "peak_memory_mb": round(peak / 1e6),
        "last": trainer.state.log_history[-1],
    }


def _resident_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
