"""`trim`: a drafter's vocabulary cut to the tokens that the target uses in a language.

And the way back: the same drafter at the target's vocabulary size, as vLLM's `draft_model` wants
it, with what was cut off never drafted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headstart.recipes import trained_on
from headstart.recipes.distilling import read_answers
from headstart.recipes.drafter_model import NOTE, Drafter
from headstart.recipes.models import Chat, folder_of
from headstart.recipes.options import option
from headstart.recipes.samples import write_folder
from headstart.recipes.vocabulary import Vocabulary, chosen, counted

__all__ = ["TrimOptions", "cut", "trim", "widened"]

_MARGIN_DIMENSIONS = 32
"""By how much `widened` widens: kernels want multiples of this."""
_NEVER = -1e6
"""Weight of the constant dimension in rows that are never to be drafted."""


@dataclass(frozen=True, kw_only=True)
class TrimOptions:
    """What `trim` is told."""

    model: str = option("the target: a folder, a Hugging Face id, or builtin:NAME")
    drafter: Path = option("folder of a drafter: `model` in that of a run")
    answers: tuple[Path, ...] = option(
        "folders that `distil` made: tokens of prompts and answers count"
    )
    keep: int = option("how many tokens stay, the most used; 0 is all that are used", 8192)
    out: Path = option("folder for the trimmed drafter")


def trim(options: TrimOptions) -> dict[str, Any]:
    """Cut a drafter; returns what it keeps.

    Raises:
        SetupError: Drafter or answers are not fit, or the disk is full.
    """
    chat = Chat.of(folder_of(options.model))
    drafter = Drafter.load(options.drafter, "cpu")
    drafter.check(chat.identity, options.drafter)
    answers = [each for one in options.answers for each in read_answers(one, chat)]
    said, asked = (
        counted(getattr(each, part) for each in answers) for part in ("answer", "prompt")
    )
    own = drafter.vocabulary.kept
    unknown = frozenset() if own is None else (said.keys() | asked.keys() | chat.ends) - set(own)
    drafted = said.total()
    for counts in (said, asked):
        for token in unknown:
            del counts[token]
    kept = chosen([said, asked], options.keep, chat.ends - unknown)
    made = cut(drafter, tuple(kept))
    learned = trained_on.noted(options.drafter)

    def write(folder: Path) -> None:
        made.save(folder)
        trained_on.note(folder, learned)

    write_folder(options.out, NOTE, write)
    return {
        "drafter": str(options.out),
        "kept": len(kept),
        "of": drafter.vocabulary.own_size,
        "share_of_answer_tokens": sum(said[token] for token in kept) / max(1, drafted),
        "parameters": sum(each.numel() for each in made.model.parameters()),
    }


def cut(drafter: Drafter, kept: tuple[int, ...]) -> Drafter:
    """Return a drafter that knows `kept` alone; what it says of those is as it was.

    Args:
        kept: Ids of the target that the drafter knows, in order.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    old = drafter.vocabulary
    vocabulary = Vocabulary(old.size, kept)
    plain = drafter.model.config.to_dict() | {"vocab_size": vocabulary.own_size}
    weights = dict(drafter.model.state_dict())
    rows = weights["model.embed_tokens.weight"]
    # What is not known looks like the mean of what is.
    unknown = rows.mean(dim=0) if old.unknown is None else rows[old.unknown]
    embedding = torch.cat([rows[torch.from_numpy(old.own(kept))], unknown[None]])
    weights["model.embed_tokens.weight"] = weights["lm_head.weight"] = embedding
    model: Any = LlamaForCausalLM(LlamaConfig.from_dict(plain))  # type: ignore[no-untyped-call]
    model.load_state_dict(weights)
    return Drafter(model, vocabulary, drafter.tokenizer)


def widened(drafter: Drafter) -> Any:
    """Return a plain Llama of the target's vocabulary size that drafts the same.

    A Llama's head has no bias that could say "never". So the model gets a dimension that is the
    same for every token: no layer writes to it, and rows of the head that were cut off hold a large
    negative number there. The norms' weights and epsilon are set so that everything else stays as
    it was.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    old, vocabulary = drafter.model.config, drafter.vocabulary
    width = old.hidden_size
    wide = width + _MARGIN_DIMENSIONS
    plain = old.to_dict() | {
        "vocab_size": vocabulary.size,
        "hidden_size": wide,
        "head_dim": width // old.num_attention_heads,
        "rms_norm_eps": old.rms_norm_eps * width / wide / 2,
        "tie_word_embeddings": False,
    }
    model: Any = LlamaForCausalLM(LlamaConfig.from_dict(plain))  # type: ignore[no-untyped-call]
    own = torch.from_numpy(vocabulary.own(range(vocabulary.size)))
    weights = {}
    for name, meant in model.state_dict().items():
        found = torch.zeros_like(meant)
        each = drafter.model.state_dict()[name].float()
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            each = each[own]
        if name.endswith("norm.weight"):
            each = each * (width / wide) ** 0.5
        found[tuple(slice(size) for size in each.shape)] = each
        weights[name] = found
    # Half of the old epsilon is the constant's share of the mean square, half the new epsilon.
    weights["model.embed_tokens.weight"][:, width] = (width * old.rms_norm_eps / 2) ** 0.5
    weights["model.norm.weight"][width] = 1.0
    if vocabulary.unknown is not None:
        weights["lm_head.weight"][own == vocabulary.unknown, width] = _NEVER
    model.load_state_dict(weights)
    return model
