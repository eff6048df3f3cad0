"""Can an engine load this folder? Answered from headers and JSON, without reading weights."""

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headstart.stages.errors import SetupError

__all__ = ["check_folder", "lora_rank", "model_shape"]

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")

T = TypeVar("T")


class _Config(msgspec.Struct):
    model_type: str


class _AdapterConfig(msgspec.Struct):
    r: int


class _WeightIndex(msgspec.Struct):
    weight_map: dict[str, str]
    """Tensor to the file that holds it."""


def check_folder(folder: Path, *, is_head: bool = False) -> None:
    """Refuse a model folder that an engine could not load.

    Args:
        is_head: Whether it is a head on another model's hidden states, which needs no tokenizer.

    Raises:
        SetupError: A file is missing, truncated or not what its name says.
    """
    _read_json(folder / "config.json", _Config)
    _check_weights(folder)
    if (folder / "tokenizer.json").exists():
        _read_json(folder / "tokenizer.json", dict)
    elif not is_head and not (
        any((folder / name).exists() for name in _TOKENIZERS) or any(folder.glob("*.tiktoken"))
    ):
        raise SetupError(f"{folder} holds no tokenizer (tokenizer.json): copy it there too.")


def model_shape(folder: Path) -> dict[str, Any]:
    """Return the sizes that a model's `config.json` tells, of its text part where it has several.

    Raises:
        SetupError: It cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
        return dict(config.get("text_config") or config)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SetupError(f"{folder / 'config.json'} cannot be read: {error}") from error


def lora_rank(path: str) -> int:
    """Check the folder of a LoRA adapter and return the adapter's rank.

    Raises:
        SetupError: A file is missing, truncated or not what its name says.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise SetupError(f"There is no LoRA adapter at {path!r}: give an existing folder.")
    rank = _read_json(folder / "adapter_config.json", _AdapterConfig).r
    if not (folder / "adapter_model.bin").exists():
        _check_safetensors(folder / "adapter_model.safetensors")
    return rank


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = set(_read_json(index, _WeightIndex).weight_map.values())
        shards = [folder / name for name in sorted(names)]
    else:
        shards = sorted(folder.glob("*.safetensors"))
    for shard in shards:
        _check_safetensors(shard)
    if not shards and not any(file.stat().st_size for file in folder.glob("*.bin")):
        raise SetupError(f"{folder} holds no weights (*.safetensors or *.bin): copy them there.")


def _check_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise SetupError(f"{path.parent} lacks {path.name}: copy it there too.")
    try:
        with safe_open(path, framework="numpy"):  # compares the header with the file's size
            pass
    except (OSError, SafetensorError) as error:
        raise SetupError(f"{path} is truncated or damaged ({error}): fetch it again.") from error


def _read_json(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError as error:
        raise SetupError(f"{path.parent} lacks {path.name}: copy it there too.") from error
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise SetupError(f"{path} is damaged ({error}): fetch it again.") from error
