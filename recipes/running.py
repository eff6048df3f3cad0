"""A training run, from its data to a result in the output folder."""

import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from headstart.recipes.budget import Budget
from headstart.recipes.checkpoints import resumable
from headstart.recipes.collecting import claim
from headstart.recipes.dataset import PackedSamples
from headstart.recipes.disk import check_disk, disk_faults
from headstart.recipes.forwarding import behead, check_mask
from headstart.recipes.learning import keep_memory, samples_for, trained_model
from headstart.recipes.models import Chat, device_of, folder_of, machine, need
from headstart.recipes.pieces import cut
from headstart.recipes.planning import check, identity, planned, result_of, with_dtype
from headstart.recipes.plots import plot_metrics
from headstart.recipes.samples import write_json
from headstart.recipes.training import PackTrainer, TrainOptions, arguments, described

__all__ = ["train"]

_ADAM_BYTES = 12
"""Weight, and both moments, of each trained number in a checkpoint."""
_REHEARSED_STEPS = 3


def train(options: TrainOptions) -> dict[str, Any]:
    """Train, or go on; returns what is noted in the output folder's result.json.

    Raises:
        SetupError: Data, model, tokenizer, memory or disk are not fit, or the loss is no number.
    """
    if options.workers > 1:
        from headstart.recipes.ray_training import train_on_ray

        return train_on_ray(options)
    return run(options)


def run(options: TrainOptions) -> dict[str, Any]:
    """Train in this process, alone or as one of several that torch has joined."""
    check(options)
    base = folder_of(options.model)
    chat = Chat.of(base)
    samples = samples_for(options, chat)
    device = device_of(options.device)
    if device == "cpu":
        keep_memory()
    options = with_dtype(options, base, device)
    model = trained_model(options, base, device)
    num = planned(options, len(samples))
    dataset = PackedSamples(samples, options, num)
    item = next(
        (each for each in map(dataset.__getitem__, range(min(num, 8))) if len(each.students)),
        dataset[0],
    )
    check_mask(model.eval(), item)
    head = behead(model, item)
    model.train()
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    if options.dry_run:
        return _rehearse(options, (model, head), dataset, device, trained)
    claim(options.out, identity(options))
    check_disk(options.out, 2 * _ADAM_BYTES * trained)
    if (done := result_of(options, num)) is not None:
        return done
    # A result of what was to be shorter is none of this run.
    (options.out / "result.json").unlink(missing_ok=True)
    trainer = _trainer(options, (model, head), dataset, device, options.out)
    with disk_faults(options.out), _as_computed(model, options):
        plan = {"samples": num, "max_minutes": options.max_minutes}
        checkpoint = resumable(options.out, plan, options.decay) or options.start
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if not trainer.is_world_process_zero():
            return {}
        if trainer.budget.is_paused:
            return _progress(trainer, num) | {"is_paused": True}
        return _finish(options, trainer, base, num)


def _as_computed(model: Any, options: TrainOptions) -> AbstractContextManager[None]:
    """Leave it to autocast to make one dtype of an adapter's and its inputs': peft goes by float32.

    That takes two conversions less for each projection.
    """
    if not options.lora_rank:
        return nullcontext()
    casting: Any = need("peft.helpers").disable_input_dtype_casting
    return casting(model)  # type: ignore[no-any-return]


def _trainer(
    options: TrainOptions,
    learner: tuple[Any, torch.Tensor],
    dataset: PackedSamples,
    device: str,
    out: Path,
    steps: int = 0,
) -> PackTrainer:
    workers = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    per_step = options.batch * options.accumulate * workers
    steps = steps or -(-len(dataset) // per_step)
    minutes, piece = options.max_minutes, options.piece_minutes
    budget = Budget(
        num_steps=steps,
        samples_per_step=per_step,
        decay=options.decay,
        max_s=minutes and minutes * 60,
        piece_s=piece and piece * 60,
        save_s=options.save_minutes * 60,
        milestone=options.milestone,
    )
    model, head = learner
    return PackTrainer(
        options=options,
        budget=budget,
        head=head,
        model=model,
        args=arguments(options, out, steps, device),
        train_dataset=dataset,
    )


def _progress(trainer: PackTrainer, num: int) -> dict[str, Any]:
    history = trainer.state.log_history
    return {
        "planned": num,
        "samples": min(num, max(line.get("samples", 0) for line in history)),
        "tokens": max(line.get("tokens", 0) for line in history),
        "steps": trainer.state.global_step,
        "elapsed_s": max(line.get("elapsed_s", 0.0) for line in history),
        "last": next(line for line in reversed(history) if "consistency" in line),
    }


def _finish(options: TrainOptions, trainer: PackTrainer, base: Path, num: int) -> dict[str, Any]:
    history = trainer.state.log_history
    name = "adapter" if options.lora_rank else "model"
    partial, result = options.out / f"{name}.partial", options.out / name
    shutil.rmtree(partial, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not options.lora_rank:
        model = model.to(torch.bfloat16) if options.dtype == "bfloat16" else model
        Chat.of(base).tokenizer.save_pretrained(partial)
    model.save_pretrained(partial)
    shutil.rmtree(result, ignore_errors=True)
    partial.rename(result)
    plot_metrics(history, options.out / "training.png")
    if options.shard_bytes:
        cut(result, options.out / "pieces", options.shard_bytes)
    packages = ("torch", "transformers", "peft", "accelerate")
    note = {
        "result": name,
        "options": described(options),
        **_progress(trainer, num),
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


def _rehearse(
    options: TrainOptions,
    learner: tuple[Any, torch.Tensor],
    dataset: PackedSamples,
    device: str,
    trained: int,
) -> dict[str, Any]:
    """Time steps, the first one left out, and say what the run would take."""
    import tempfile

    laps = _Laps()
    with tempfile.TemporaryDirectory() as folder:
        short = replace(options, log_steps=1, max_minutes=None, piece_minutes=None, milestone=None)
        trainer = _trainer(short, learner, dataset, device, Path(folder), steps=_REHEARSED_STEPS)
        trainer.add_callback(laps)
        with disk_faults(options.out), _as_computed(learner[0], options):
            trainer.train()
    check_disk(options.out, 2 * _ADAM_BYTES * trained)
    step_s = (laps.ends[-1] - laps.ends[0]) / (len(laps.ends) - 1)
    per_step = trainer.budget.samples_per_step
    tokens = [line["tokens"] for line in trainer.state.log_history if "tokens" in line]
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _resident_bytes()
    return {
        "samples": len(dataset),
        "trained_parameters": trained,
        "dtype": options.dtype,
        "seconds_a_step": round(step_s, 2),
        "tokens_a_second": round((max(tokens) - tokens[0]) / (step_s * (len(laps.ends) - 1))),
        "minutes_for_all": round(step_s * len(dataset) / per_step / 60, 1),
        "samples_in_time": (
            None
            if options.max_minutes is None
            else int(min(len(dataset), options.max_minutes * 60 / step_s * per_step))
        ),
        "peak_memory_mb": round(peak / 1e6),
        "last": trainer.state.log_history[-1],
    }


def _resident_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
