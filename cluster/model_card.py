"""What the card of a model's weights says to us: the head of its `README.md`, in YAML."""

from pathlib import Path

import yaml

from headstart.configs.model_settings import SPECULATION_ARGUMENTS, ModelSettings
from headstart.configs.speculation import MAX_BLOCK_TOKENS, SpeculationSettings
from headstart.stages.errors import SetupError

__all__ = ["declared_block", "with_card"]


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


def declared_block(folder: Path) -> int | None:
    """Return the block length that weights are tuned for; None if they are tuned for none.

    The card says `headstart: {block_tokens: N}`.

    Raises:
        SetupError: It says so in a way that makes no sense.
    """
    card = folder / "README.md"
    if not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        head = yaml.safe_load(parts[1])
        ours = head.get("headstart") if isinstance(head, dict) else None
        block = None if ours is None else ours["block_tokens"]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise SetupError(f"the head of {card} cannot be read: {error}") from error
    if block is None or (type(block) is int and 2 <= block <= MAX_BLOCK_TOKENS):
        return block
    raise SetupError(
        f"{card}: headstart.block_tokens must be a whole number from 2 to {MAX_BLOCK_TOKENS}"
    )
