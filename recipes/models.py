"""A model to train or to ask: its folder, tokenizer, chat template and weights.

Of Headstart, only what runs where torch and transformers are: a training machine may have no more.
"""

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.stages.errors import SetupError

__all__ = ["Chat", "device_of", "fingerprint", "folder_of", "load", "machine", "need"]

_PROBE = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
_SAMPLED_BYTES = 1 << 20


def need(package: str) -> Any:
    """Import a package that the extra `recipes` brings.

    Raises:
        SetupError: It is not installed.
    """
    import importlib

    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise SetupError(
            f"{package} is not installed: run `pip install 'headstart[recipes]'`"
        ) from error


def folder_of(source: str, adapter: Path | None = None) -> Path:
    """Return the folder of a model, merged with an adapter if one is given.

    Args:
        source: As `models[].source` in the settings.

    Raises:
        SetupError: There is none, or the adapter is not one of it.
    """
    path = Path(source).expanduser()
    if path.is_dir() and not (path / "adapter_config.json").is_file():
        folder = path.resolve()
    else:
        try:
            from headstart.cluster.model_source import resolve
            from headstart.configs.fields import default_cache_dir
        except ModuleNotFoundError as error:
            raise SetupError(
                f"{source} is no folder of a model with config.json, and other sources take what "
                f"is not installed here ({error.name}): give a folder, or `pip install "
                "'headstart[cpu,recipes]'`"
            ) from error
        folder = resolve(source, default_cache_dir())
    if adapter is None:
        return folder
    from headstart.cluster.merged_model import merged

    return merged(folder, adapter, _cache_dir())


def _cache_dir() -> Path:
    try:
        from headstart.configs.fields import default_cache_dir
    except ModuleNotFoundError:  # no pydantic on a machine that only trains
        return Path.home() / ".cache" / "headstart"
    return default_cache_dir()


def device_of(name: str) -> str:
    """Return the device that `auto` stands for, or the name itself."""
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def machine(device: str) -> str:
    """Return what a device is, in words, for the cards of what it makes."""
    if device == "cuda":
        import torch

        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        name = platform.machine()
    return f"{len(os.sched_getaffinity(0))} cores of {name}"


def load(folder: Path, device: str, dtype: str, attention: str = "sdpa") -> Any:
    """Load a model whose attention takes a mask of ours.

    Args:
        attention: One of transformers' kinds.

    Raises:
        SetupError: The folder holds no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation=attention
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise SetupError(f"{folder} holds no model that can be trained: {reason}") from error
    return model.to(device)


def fingerprint(folder: Path, adapter: Path | None = None) -> str:
    """Tell weights from other weights, without reading gigabytes: the ends of each file count."""
    digest = hashlib.sha256()
    for each in (folder, adapter):
        for file in sorted(each.glob("*.safetensors")) if each is not None else ():
            size = file.stat().st_size
            digest.update(f"{size}:".encode())
            with file.open("rb") as data:
                digest.update(data.read(_SAMPLED_BYTES))
                for part in range(1, 9):
                    data.seek(max(0, size * part // 8 - _SAMPLED_BYTES))
                    digest.update(data.read(_SAMPLED_BYTES))
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Chat:
    """A tokenizer with its chat template."""

    tokenizer: Any
    ends: frozenset[int]
    """Tokens that end an answer."""

    @classmethod
    def of(cls, folder: Path) -> "Chat":
        """Read a model's tokenizer.

        Raises:
            SetupError: It has none, or no chat template, or no token that ends an answer.
        """
        from transformers import AutoTokenizer, GenerationConfig

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).partition("\n")[0]
            raise SetupError(f"{folder} holds no tokenizer: {reason}") from error
        if not tokenizer.chat_template:
            raise SetupError(
                f"{folder} has no chat template: consistency is trained on answers to chats; put "
                "the template of the instruction-tuned model there (chat_template.jinja)"
            )
        ends = {tokenizer.eos_token_id}
        if (folder / "generation_config.json").is_file():
            named = GenerationConfig.from_pretrained(folder).eos_token_id
            ends |= set(named) if isinstance(named, list) else {named}
        ends.discard(None)
        if not ends:
            raise SetupError(f"{folder} names no token that ends an answer: set eos_token_id there")
        return cls(tokenizer, frozenset(ends))

    @property
    def identity(self) -> str:
        """Tell vocabulary and template from others."""
        known = [
            sorted(self.tokenizer.get_vocab().items()),
            self.tokenizer.apply_chat_template(_PROBE, tokenize=False),
        ]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Return the tokens of a chat, up to where the answer begins.

        Raises:
            SetupError: The template refuses the chat.
        """
        from jinja2 import TemplateError

        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise SetupError(f"the chat template refuses a prompt: {error}") from error
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def answer(self, text: str) -> list[int]:
        """Return the tokens of an answer, its end included."""
        return [*self.encode(text), self.tokenizer.eos_token_id]

    def text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
