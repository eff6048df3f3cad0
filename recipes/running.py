"""A training run, from its data to a result in the output folder."""

import json
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from headstart.recipes.collecting import claim
from headstart.recipes.dataset import PackedSamples
from headstart.recipes.disk import check_disk, disk_faults
from headstart.recipes.forwarding import check_mask
from headstart.recipes.models import Chat, device_of, fingerprint, folder_of, load, need
from headstart.recipes.pieces import cut
from headstart.recipes.plots import plot_metrics
from headstart.recipes.prompts import read_prompts
from headstart.recipes.samples import Sample, SampleFile, read_card, write_json
from headstart.recipes.training import (
    Budget,
    PackTrainer,
    TrainOptions,
    arguments,
    described,
    last_checkpoint,
)
from headstart.stages.errors import SetupError

__all__ = ["train"]

_BUDGETS = (
    "max_samples",
    "max_minutes",
    "epochs",
    "workers",
    "save_minutes",
    "log_steps",
    "shard_bytes",
    "dry_run",
    "device",
    "out",
)
"""Options that may differ when a run goes on."""
_ADAM_BYTES = 12
"""Weight, and both moments, of each trained number in a checkpoint."""


def train(options: TrainOptions) -> dict[str, Any]:
    """Train, or go on; returns what is noted in the output folder's run.json.

    Raises:
        SetupError: Data, model, tokenizer, memory or disk are not fit, or the loss is no number.
    """
    if options.workers > 1:
        from headstart.recipes.ray_training import train_on_ray

        return train_on_ray(options)
    return run(options)


def run(options: TrainOptions) -> dict[str, Any]:
    """Train in this process, alone or as one of several that torch has joined."""
    base = folder_of(options.model)
    chat = Chat.of(base)
    samples = _samples(options, chat)
    device = device_of(options.device)
    model = _trained_model(options, base, device)
    num = max(1, round(len(samples) * options.epochs))
    num = min(num, options.max_samples or num)
    dataset = PackedSamples(samples, options, num)
    check_mask(
        model.eval(),
        next(
            (each for each in map(dataset.__getitem__, range(min(num, 8))) if len(each.students)),
            dataset[0],
        ),
    )
    model.train()
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    if options.dry_run:
        return _rehearse(options, model, dataset, device, trained)
    claim(options.out, {k: v for k, v in described(options).items() if k not in _BUDGETS})
    check_disk(options.out, 2 * _ADAM_BYTES * trained)
    done = options.out / "result.json"
    if done.exists() and json.loads(done.read_bytes())["planned"] >= num:
        return dict(json.loads(done.read_bytes()))
    trainer = _trainer(options, model, dataset, device, options.out)
    with disk_faults(options.out):
        checkpoint = last_checkpoint(options.out)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if not trainer.is_world_process_zero():
            return {}
        return _finish(options, trainer, base, num)


def _samples(options: TrainOptions, chat: Chat) -> SampleFile | list[Sample]:
    if options.method == "sft":
        prompts = read_prompts(options.data)
        found = [
            Sample(each.id, chat.prompt(each.messages), chat.answer(each.answer), 0, 0, [])
            for each in prompts
            if each.answer
        ]
        if not found:
            raise SetupError(f"{options.data} has no `answer`s: `--method sft` learns those")
        return found
    card = read_card(options.data)
    if card["tokenizer"] != chat.identity:
        raise SetupError(
            f"{options.data} was collected with another tokenizer or chat template than "
            f"{options.model} has: collect from this model"
        )
    if card["weights"] != fingerprint(folder_of(options.model, options.adapter)):
        raise SetupError(
            f"{options.data} holds another model's answers than those of {options.model}"
            f"{' with its adapter' if options.adapter else ''}: collect from the model to train"
        )
    return SampleFile(options.data / "samples.jsonl")


def _trained_model(options: TrainOptions, base: Path, device: str) -> Any:
    """Load weights to train: all in float32, or an adapter beside frozen ones."""
    if not options.lora_rank:
        return load(folder_of(options.model, options.adapter), device, "float32")
    peft = need("peft")
    model = load(base, device, options.dtype)
    if options.adapter is not None:
        rank = peft.PeftConfig.from_pretrained(options.adapter).r
        if rank != options.lora_rank:
            raise SetupError(f"{options.adapter} is of rank {rank}: give --lora-rank {rank}")
        return peft.PeftModel.from_pretrained(model, options.adapter, is_trainable=True)
    torch.manual_seed(options.seed)
    config = peft.LoraConfig(
        r=options.lora_rank,
        lora_alpha=2 * options.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, config)


def _trainer(
    options: TrainOptions,
    model: Any,
    dataset: PackedSamples,
    device: str,
    out: Path,
    steps: int = 0,
) -> PackTrainer:
    workers = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    per_step = options.batch * options.accumulate * workers
    minutes = options.max_minutes
    return PackTrainer(
        options=options,
        budget=Budget(minutes and minutes * 60, options.save_minutes * 60),
        model=model,
        args=arguments(options, out, steps or -(-len(dataset) // per_step), device),
        train_dataset=dataset,
    )


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
        "planned": num,
        "samples": min(num, max(line.get("samples", 0) for line in history)),
        "steps": trainer.state.global_step,
        "elapsed_s": max(line.get("elapsed_s", 0.0) for line in history),
        "last": next(line for line in reversed(history) if "consistency" in line),
        "versions": {each: _version(each) for each in packages},
        "device": str(trainer.args.device),
    }
    write_json(options.out / "result.json", note)
    return note


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _rehearse(
    options: TrainOptions, model: Any, dataset: PackedSamples, device: str, trained: int
) -> dict[str, Any]:
    """Time two steps, and say what the run would take."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        trainer = _trainer(options, model, dataset, device, Path(folder), steps=2)
        with disk_faults(options.out):
            trainer.train()
        step_s = (time.monotonic() - began) / 2
    check_disk(options.out, 2 * _ADAM_BYTES * trained)
    per_step = options.batch * options.accumulate
    whole_s = step_s * len(dataset) / per_step
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _resident_bytes()
    return {
        "samples": len(dataset),
        "trained_parameters": trained,
        "seconds_a_step": round(step_s, 2),
        "minutes_for_all": round(whole_s / 60, 1),
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
