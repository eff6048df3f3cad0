"""A small Llama that drafts for a larger model: its folder, and what it was made for."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.recipes.options import option
from headstart.recipes.samples import write_json
from headstart.recipes.vocabulary import Vocabulary
from headstart.stages.errors import SetupError

__all__ = ["NOTE", "Drafter", "ShapeOptions", "vocabulary_size"]

NOTE = "drafter.json"
"""What tells a drafter's folder from others."""


@dataclass(frozen=True, kw_only=True)
class ShapeOptions:
    """How large a new drafter is."""

    layers: int = option("of a new drafter", 2, least=1)
    hidden_size: int = option("of a new drafter: width of its embedding", 128, least=1)
    heads: int = option("of a new drafter's attention", 4, least=1)
    intermediate_size: int | None = option(
        "of its MLP; unset: three times the width", None, least=1
    )


@dataclass(frozen=True, slots=True)
class Drafter:
    """Weights and vocabulary, and the tokenizer and template that they are for."""

    model: Any
    vocabulary: Vocabulary
    tokenizer: str
    """Identity of the target's tokenizer and chat template."""

    @classmethod
    def new(
        cls, shape: ShapeOptions, vocabulary: Vocabulary, tokenizer: str, context: int, seed: int
    ) -> "Drafter":
        """Make one of random weights.

        Raises:
            SetupError: There is no such shape.
        """
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        if shape.hidden_size % (2 * shape.heads):
            raise SetupError(
                f"--hidden-size {shape.hidden_size} must be an even multiple of --heads "
                f"{shape.heads}"
            )
        config = LlamaConfig(
            vocab_size=vocabulary.own_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size or 3 * shape.hidden_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=context,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
        return cls(model, vocabulary, tokenizer)

    @classmethod
    def load(cls, folder: Path, device: str, dtype: str = "float32") -> "Drafter":
        """Read what `save` wrote.

        Raises:
            SetupError: The folder holds no drafter.
        """
        import torch
        from transformers import LlamaForCausalLM

        try:
            note = json.loads((folder / NOTE).read_bytes())
            vocabulary = Vocabulary.of_json(note["vocabulary"])
            model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
            tokenizer = str(note["tokenizer"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise SetupError(
                f"{folder} holds no drafter ({reason}): give the folder `model` of a run of "
                "`pretrain` or `finetune`, or what `trim` made"
            ) from error
        if model.config.vocab_size != vocabulary.own_size:
            raise SetupError(f"{folder}: weights and {NOTE} are of different vocabularies")
        return cls(model.to(device), vocabulary, tokenizer)

    def save(self, folder: Path) -> None:
        """Write weights, configuration and what they are for."""
        self.model.save_pretrained(folder)
        note = {"tokenizer": self.tokenizer, "vocabulary": self.vocabulary.as_json()}
        write_json(folder / NOTE, note)

    def check(self, tokenizer: str, folder: Path) -> None:
        """Refuse to draft for another target than the one it was made for.

        Raises:
            SetupError: Tokenizer or chat template differ.
        """
        if self.tokenizer != tokenizer:
            raise SetupError(
                f"{folder} drafts for another tokenizer or chat template: train it for this model"
            )

    def drafts(self, prompt: list[int], answer: list[int]) -> list[int]:
        """Return what it says first behind the prompt and behind each token of the answer but the
        last, as the target's ids: one for each token of the answer."""
        import torch

        own = torch.from_numpy(self.vocabulary.own([*prompt, *answer[:-1]]))[None]
        with torch.inference_mode():
            hidden = self.model.model(own.to(self.model.device)).last_hidden_state
            logits = self.model.lm_head(hidden[0, len(prompt) - 1 :])
            if (unknown := self.vocabulary.unknown) is not None:
                logits[:, unknown] = -torch.inf
            said: list[int] = logits.argmax(dim=-1).tolist()
        kept = self.vocabulary.kept
        return said if kept is None else [kept[each] for each in said]


def vocabulary_size(folder: Path) -> int:
    """Return the size of a model's vocabulary, as its weights have it.

    Raises:
        SetupError: The folder does not say it.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
        return int((config.get("text_config") or config)["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(f"{folder / 'config.json'} names no vocab_size: {error}") from error
