"""What a model's weights say to us: the head of their `README.md`, in YAML, or their training."""

import json
from pathlib import Path
from typing import Any

import yaml

from headstart.cluster.merged_model import TRAINING
from headstart.configs.model_settings import SPECULATION_ARGUMENTS, ModelSettings
from headstart.configs.speculation import MAX_BLOCK_TOKENS, SpeculationSettings
from headstart.stages.errors import SetupError

__all__ = ["decided", "declared_block", "with_card"]

_MAX_TOKENS = 16
"""Of any draft, with weights that are tuned for no block length."""


def with_card(model: ModelSettings, folder: Path) -> ModelSettings:
    """Return a model's settings with speculation, where only the card of its weights speaks of it.

    Raises:
        SetupError: The card cannot be read.
    """
    is_open = model.speculation is None and model.engine_args.keys().isdisjoint(
        SPECULATION_ARGUMENTS
    )
    if not is_open or declared_block(folder) is None:
        return model
    return model.model_copy(update={"speculation": SpeculationSettings()})


def decided(settings: SpeculationSettings, folder: Path) -> SpeculationSettings:
    """Return settings of speculation in which nothing is open that the card of the weights decides.

    Here and nowhere else: the worker drafts by what comes of it, and gateways are told.

    Raises:
        SetupError: The card cannot be read.
    """
    declared = declared_block(folder)
    block = settings.block_tokens or declared
    by_default, most = "off", _MAX_TOKENS
    if declared is not None and block is not None:
        by_default, most = "auto", block - 1
    return settings.model_copy(
        update={
            "default": settings.default or by_default,
            "max_tokens": settings.max_tokens or most,
            "block_tokens": block,
        }
    )


def declared_block(folder: Path) -> int | None:
    """Return the block length that weights are tuned for; None if they are tuned for none.

    The card says `headstart: {block_tokens: N}`. Where it does not, as in an installed package,
    which has no cards, the record of the training that made the weights may.

    Raises:
        SetupError: It says so in a way that makes no sense.
    """
    for name, read in (("README.md", _in_card), (TRAINING, _in_training)):
        file = folder / name
        if not file.is_file() or (block := read(file)) is None:
            continue
        if type(block) is int and 2 <= block <= MAX_BLOCK_TOKENS:
            return block
        raise SetupError(
            f"{file}: block_tokens must be a whole number from 2 to {MAX_BLOCK_TOKENS}"
        )
    return None


def _in_card(card: Path) -> Any:
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        head = yaml.safe_load(parts[1])
        ours = head.get("headstart") if isinstance(head, dict) else None
        return None if ours is None else ours["block_tokens"]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        why = " ".join(str(error).split())  # of YAML over several lines
        raise SetupError(f"the head of {card} cannot be read: {why}") from error


def _in_training(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes()).get("block_tokens")
    except (OSError, ValueError, AttributeError) as error:
        raise SetupError(f"{file} cannot be read: {error}") from error
