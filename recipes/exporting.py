"""`export`: what a run has learned as a small LoRA adapter with a card that the server reads."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headstart.cluster.merged_model import TRAINING, first_rows
from headstart.recipes import trained_on
from headstart.recipes.models import folder_of
from headstart.recipes.options import option
from headstart.recipes.provenance import training_from
from headstart.recipes.samples import card_of, read_card, write_folder
from headstart.stages.errors import SetupError

__all__ = ["ExportOptions", "export"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `export` is told."""

    run: Path = option("folder of the run that `train` made")
    out: Path = option("folder for the adapter")
    name: str = option("name of the tuned model: it is another one than its base")
    model: str | None = option("the base, as it is called here; unset: as the run called it", None)
    data: Path | None = option("folder that `collect` made, for the card; unset: the run's", None)
    license: str = option("of the weights, as the card says it", "apache-2.0")
    max_bytes: int = option("largest file of weights", 5_000_000)
    rank: int | None = option("of a run of all weights; unset: what fits --max-bytes", None)
    merge: bool = option("also merge it into the cache and print the folder", False)


def export(options: ExportOptions) -> dict[str, Any]:
    """Write the adapter, whole or not at all; returns what was written.

    Raises:
        SetupError: The run has not ended, or what it learned does not fit.
    """
    try:
        note = json.loads((options.run / "result.json").read_bytes())
    except (OSError, ValueError) as error:
        raise SetupError(f"{options.run} has no result: run `train` to its end") from error
    source = options.model or note["options"]["model"]
    note["options"]["model"] = source
    base = folder_of(source)
    if note.get("base_weights", first_rows(base)) != first_rows(base):
        raise SetupError(
            f"{options.run} was trained from other weights than {source}: give --model"
        )
    kept = None
    if note["result"] == "adapter":
        weights, config = _learned(options.run / "adapter")
    else:
        weights, config, kept = _differences(base, _exact(options.run, note), options)
    weights = {name: each.to(torch.bfloat16).contiguous() for name, each in weights.items()}
    size = sum(each.numel() * each.element_size() for each in weights.values())
    if size > options.max_bytes:
        raise SetupError(
            f"the adapter has {size / 1e6:.1f} MB and may have {options.max_bytes / 1e6:.1f}: "
            "train with a lower --lora-rank, or raise --max-bytes"
        )
    config["base_model_name_or_path"] = source
    facts = {"bytes": size, "rank": config["r"], "energy_kept": kept}
    training = training_from(note, facts["rank"], kept)
    digests = trained_on.noted(options.run / note["result"])
    _write(options.out, weights, config, _card(options, note, training), training, digests)
    if options.merge:
        facts["merged"] = str(folder_of(source, options.out))
    return facts | {"adapter": str(options.out)}


def _learned(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
        return load_file(folder / "adapter_model.safetensors"), config
    except (OSError, ValueError) as error:
        raise SetupError(f"{folder} is damaged ({error}): run `train` again") from error


def _exact(run: Path, note: dict[str, Any]) -> Path:
    """Return where all weights lie as they were trained, in float32: the last checkpoint.

    Those of the result are rounded, and what rounding adds is of no low rank.
    """
    last = run / f"checkpoint-{note['steps']}"
    return last if any(last.glob("*.safetensors")) else run / "model"


def _differences(
    base: Path, tuned: Path, options: ExportOptions
) -> tuple[dict[str, torch.Tensor], dict[str, Any], float]:
    """Take what all weights have learned as matrices of low rank; says how much that keeps."""
    before, after = _all(base), _all(tuned)
    names = [
        name
        for name in after
        if name.endswith("_proj.weight") and after[name].ndim == 2 and name in before
    ]
    if not names:
        raise SetupError(f"{tuned} has no projections of {base}: nothing of it fits an adapter")
    per_rank = 2 * sum(sum(after[name].shape) for name in names)
    rank = options.rank or min(64, options.max_bytes // per_rank)
    if rank < 1:
        raise SetupError(f"rank 1 has {per_rank / 1e6:.1f} MB: raise --max-bytes")
    weights, total, kept = {}, 0.0, 0.0
    torch.manual_seed(0)
    for name in names:
        difference = after[name].float() - before[name].float()
        left, values, right = torch.svd_lowrank(difference, q=min(rank + 8, *difference.shape))
        left, values, right = left[:, :rank], values[:rank], right[:, :rank]
        layer = "base_model.model." + name.removesuffix(".weight")
        weights[f"{layer}.lora_A.weight"] = values.sqrt()[:, None] * right.T
        weights[f"{layer}.lora_B.weight"] = left * values.sqrt()
        total += float(difference.square().sum())
        kept += float(values.square().sum())
    targets = sorted({name.split(".")[-2] for name in names})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": targets,
        "bias": "none",
        "inference_mode": True,
    }
    return weights, config, round(kept / max(total, 1e-30), 4)


def _all(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        found |= load_file(shard)
    return found


def _card(options: ExportOptions, note: dict[str, Any], training: dict[str, Any]) -> str:
    """Return the model card. `headstart` at its head is what the server reads."""
    trained, begun = note["options"], training["begun_from"]
    head: dict[str, Any] = {
        "license": options.license,
        "base_model": trained["model"],
        "library_name": "peft",
        "model_name": options.name,
    }
    data: dict[str, Any] = {}
    if trained["method"] != "sft":
        data = _collected(note, options.data)
        head["headstart"] = {"block_tokens": data["block_tokens"]}
    said = (
        f"{trained['model']} tuned by `headstart recipe consistency` ({trained['method']}). It is "
        "another model than its base: its answers differ, and greedy decoding with Jacobi steps "
        "gives its own."
    )
    shown = {
        "begun from": begun and f"{begun['options']['method']}, {begun['samples']} samples",
        "samples seen": note["samples"],
        "tokens trained on, prompts and noise included": note.get("tokens"),
        "optimizer steps": note["steps"],
        "minutes": round(note["elapsed_s"] / 60, 1),
        "trained on": note.get("machine"),
        "learning rate": trained["learning_rate"],
        "seed": trained["seed"],
        "rank": training["rank"],
        "share of the change that fits the rank": training["energy_kept"],
        "answers collected": data.get("samples"),
        "prompts": data.get("prompts"),
        "SHA-256 of the prompts": data.get("prompts_sha256"),
        "answers left out": data.get("left_out"),
    }
    return card_of(head, options.name, said, shown)


def _collected(note: dict[str, Any], data: Path | None) -> dict[str, Any]:
    """Return the card of the data, which a run elsewhere has brought along."""
    if data is None and "collected" in note:
        return dict(note["collected"])
    return read_card(data or Path(note["options"]["data"]))


def _write(
    out: Path,
    weights: dict[str, torch.Tensor],
    config: dict[str, Any],
    card: str,
    training: dict[str, Any],
    digests: set[bytes],
) -> None:
    from safetensors.torch import save_file

    def write(folder: Path) -> None:
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / "README.md").write_text(card, encoding="utf-8")
        (folder / TRAINING).write_text(json.dumps(training, indent=2) + "\n")
        trained_on.note(folder, digests)

    write_folder(out, "adapter_config.json", write)
