"""Prompts as token ids, for benchmarks without an engine: one tokenizer, one plain template."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from headstart.cluster import model_source
from headstart.configs.settings import Settings

__all__ = ["SOURCE", "Tokens"]

SOURCE = "builtin:smollm2-135m-instruct"


class Tokens:
    """Counts tokens with the tokenizer of the model that comes with the project.

    Args:
        settings: Say where models are kept.
    """

    def __init__(self, settings: Settings) -> None:
        from tokenizers import Tokenizer

        folder = Path(model_source.resolve(SOURCE, settings.cache_dir))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._ids = lru_cache(maxsize=4096)(self._encode)

    def of(self, text: str) -> int:
        """Return how many tokens a text has."""
        return len(self._ids(text))

    def rendered(self, messages: list[Any]) -> list[int]:
        """Return a conversation's ids, up to where its answer begins."""
        ids: list[int] = []
        for one in messages:
            ids += self._ids(f"<|im_start|>{one['role']}\n")
            ids += self._ids(one["content"])
            ids += self._ids("<|im_end|>\n")
        return [*ids, *self._ids("<|im_start|>assistant\n")]

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
