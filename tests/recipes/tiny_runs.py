"""How a tiny model is taught, asked and judged by the recipe's command line."""

from collections.abc import Callable
from typing import Any

__all__ = ["DECODING", "LORA", "NUM_PROMPTS", "TRAINING", "Step", "argv_of"]

NUM_PROMPTS = 12
Step = Callable[..., dict[str, Any]]
TRAINING: dict[str, Any] = {
    "dtype": "float32",
    "device": "cpu",
    "batch": 12,
    "accumulate": 1,
    "warm_up": 1,
}
LORA = TRAINING | {"lora_rank": 2, "log_steps": 1, "decay": 0.5}
DECODING: dict[str, Any] = {
    "engine": "transformers",
    "device": "cpu",
    "dtype": "float32",
    "block_tokens": 8,
    "max_tokens": 64,
}


def argv_of(name: str, /, **options: Any) -> list[str]:
    argv = [name]
    for key, value in options.items():
        argv += [f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
    return argv
