"""A model and a LoRA adapter as one folder in the cache, as an engine loads it.

The sum is written in the model's own number format. In bfloat16 most of what an adapter adds is
less than the step between two numbers, and rounding to the nearest would lose it: it is rounded up
or down by chance instead, in proportion, from a seed that follows from the tensor's name.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.stages.errors import SetupError

if TYPE_CHECKING:
    import torch

__all__ = ["TRAINED_ON", "TRAINING", "base_of", "first_rows", "merged", "rounded"]

TRAINING = "training.json"
"""Beside an adapter: what made it, of which weights, and the block length it is tuned for."""
TRAINED_ON = "trained_on.json"
"""Beside weights: which prompts they were trained on."""

_BASE = "base_model_name_or_path"
_UNKNOWN = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")
"""What changes the sum in ways that are not known here."""
_PREFIX = "base_model.model."
_COPIED = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
_OF_ADAPTER = ("README.md", TRAINING, TRAINED_ON)
"""What becomes the model's, too."""


def base_of(folder: Path) -> str | None:
    """Return the source of the model that a folder is an adapter of; None if it is a model.

    Raises:
        SetupError: It is an adapter, and does not say of what.
    """
    if (folder / "config.json").is_file() or not (folder / "adapter_config.json").is_file():
        return None
    try:
        return str(json.loads((folder / "adapter_config.json").read_bytes())[_BASE])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(
            f"{folder} does not say of which model it is an adapter ({_BASE})"
        ) from error


def merged(base: Path, adapter: Path, cache_dir: Path) -> Path:
    """Return the folder of a model with an adapter merged in; made once.

    Args:
        base: Folder of the model's safetensors.
        adapter: Folder of the adapter, as `peft` writes it. Its README.md, training.json and
            trained_on.json become the model's.

    Raises:
        SetupError: The adapter is damaged or of another model, or the cache cannot be written.
    """
    from safetensors import SafetensorError

    config = _config(adapter)
    weights = _weights(adapter)
    name = f"{base.name}-{_identity(base, adapter)}"
    folder, partial = cache_dir / name, cache_dir / f"{name}.partial"
    if folder.is_dir():
        return folder  # without a lock: the cache may be read-only
    _check_base(base, adapter)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _exclusive(cache_dir / f"{name}.lock"):
            if folder.is_dir():
                return folder  # made by another process meanwhile
            try:
                shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
                partial.mkdir()
                for pattern in _COPIED:
                    for file in base.glob(pattern):
                        shutil.copyfile(file, partial / file.name)
                (partial / TRAINING).unlink(missing_ok=True)  # of the base, not of the sum
                _merge(base, weights, config["lora_alpha"] / config["r"], partial, adapter)
                for each in _OF_ADAPTER:
                    if (adapter / each).is_file():
                        shutil.copyfile(adapter / each, partial / each)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise SetupError(
            f"the model cache {cache_dir} cannot be written ({error}): free space there"
        ) from error
    return folder


def first_rows(model: Path) -> str:
    """Tell a model's weights from another's, whichever way their files are laid out.

    Raises:
        SetupError: They cannot be read.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    found: dict[str, bytes] = {}
    try:
        for shard in sorted(model.glob("*.safetensors")):
            with safe_open(shard, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - no mapping
                    part = file.get_slice(name)
                    if len(part.get_shape()) == 2 and not name.startswith("lm_head"):
                        row = part[:1].to(torch.bfloat16).view(torch.int16)
                        found[f"{name} {part.get_shape()}"] = row.numpy().tobytes()
    except (OSError, SafetensorError) as error:
        raise SetupError(f"the weights of {model} cannot be read: {error}") from error
    digest = sha256()
    for name, row_bytes in sorted(found.items()):
        digest.update(name.encode() + row_bytes)
    return digest.hexdigest()[:16]


def _check_base(base: Path, adapter: Path) -> None:
    """Refuse a base with other weights than those that the adapter was trained beside."""
    try:
        meant = json.loads((adapter / TRAINING).read_bytes()).get("base_weights")
    except FileNotFoundError:
        return  # of another maker
    except (OSError, ValueError, AttributeError) as error:
        raise SetupError(f"{adapter / TRAINING} is damaged ({error}): export it again") from error
    if meant is not None and meant != first_rows(base):
        raise SetupError(
            f"{adapter} was trained beside other weights than those of {base}: give the model that "
            "it was trained from"
        )


def _config(adapter: Path) -> dict[str, Any]:
    try:
        config = json.loads((adapter / "adapter_config.json").read_bytes())
        if config["peft_type"] != "LORA" or any(map(config.get, _UNKNOWN)):
            raise _unplain(adapter)
        return {"r": int(config["r"]), "lora_alpha": float(config["lora_alpha"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{adapter} holds no LoRA adapter ({error}): export it again") from error


def _weights(adapter: Path) -> dict[str, "torch.Tensor"]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(adapter / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise SetupError(f"{adapter} is truncated or damaged ({error}): export it again") from error
    if not all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in weights):
        raise _unplain(adapter)
    return weights


def _unplain(adapter: Path) -> SetupError:
    return SetupError(f"{adapter} is no plain LoRA adapter: serve it under models[].adapters")


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock between processes; the kernel frees it if its holder dies."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _identity(base: Path, adapter: Path) -> str:
    digest = sha256(str(base).encode())
    for file in sorted(base.glob("*.safetensors")):
        stat = file.stat()
        digest.update(f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}".encode())
    for name in ("adapter_config.json", "adapter_model.safetensors", *_OF_ADAPTER):
        if (adapter / name).is_file():
            digest.update((adapter / name).read_bytes())
    return digest.hexdigest()[:12]


def _merge(
    base: Path, weights: dict[str, "torch.Tensor"], scale: float, folder: Path, adapter: Path
) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    left = {name.removesuffix(".lora_A.weight") for name in weights if ".lora_A." in name}
    for shard in sorted(base.glob("*.safetensors")):
        tensors = {}
        with safe_open(shard, framework="pt") as file:
            metadata = file.metadata()
            for name in file.keys():  # noqa: SIM118 - no mapping
                tensor = file.get_tensor(name)
                layer = _PREFIX + name.removesuffix(".weight")
                if layer in left:
                    left.discard(layer)
                    tensor = _added(name, tensor, weights, layer, scale, adapter)
                tensors[name] = tensor
        save_file(tensors, folder / shard.name, metadata=metadata or {"format": "pt"})
    if left or not weights:
        raise SetupError(
            f"{adapter} is an adapter of another model than {base}: "
            f"{min(left, default='it is empty')} has no place there"
        )


def _added(
    name: str,
    tensor: "torch.Tensor",
    weights: dict[str, "torch.Tensor"],
    layer: str,
    scale: float,
    adapter: Path,
) -> "torch.Tensor":
    down, up = (weights[f"{layer}.lora_{part}.weight"].float() for part in "AB")
    if (up.shape[0], down.shape[1]) != tuple(tensor.shape):
        raise SetupError(f"{adapter} is an adapter of another model: {name} has another shape")
    return rounded(tensor.float() + scale * (up @ down), tensor.dtype, name)


def rounded(exact: "torch.Tensor", dtype: "torch.dtype", seed: str) -> "torch.Tensor":
    """Round float32 to another format so that the expected value stays."""
    import torch

    if dtype != torch.bfloat16:
        return exact.to(dtype)
    random = torch.Generator().manual_seed(int.from_bytes(sha256(seed.encode()).digest()[:6]))
    # bfloat16 is the upper half of float32: add chance to the lower half, then cut it off.
    chance = torch.randint(0, 1 << 16, exact.shape, generator=random, dtype=torch.int32)
    bits = (exact.contiguous().view(torch.int32) + chance) & -(1 << 16)
    return bits.view(torch.float32).to(torch.bfloat16)
