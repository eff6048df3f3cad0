"""What `headstart bench decode` compares: engines alike in weights and arguments, by who drafts."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.benchmarks.replay_drafter import ReplayDrafter
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import DrafterSettings, SpeculationSettings

__all__ = [
    "BLOCK_TOKENS",
    "LONG_NGRAM",
    "MODEL_DRAFTS",
    "MOST_VERIFIED",
    "NGRAM",
    "Engine",
    "disturbed",
    "draft_model",
    "model_drafts",
    "our_engines",
    "plain_engines",
    "random_drafter",
]

MOST_VERIFIED = 32
BLOCK_TOKENS = 16
NGRAM = {
    "method": "ngram",
    "num_speculative_tokens": 8,
    "prompt_lookup_min": 2,
    "prompt_lookup_max": 5,
}
"""vLLM's own copying; its shortest match is the same as ours."""
LONG_NGRAM = NGRAM | {"num_speculative_tokens": BLOCK_TOKENS}
"""The same with drafts as long as ours: better where the prompt is repeated, worse elsewhere."""
SUFFIX = {"method": "suffix"}
"""With vLLM's own settings."""
_REPLAY = f"{ReplayDrafter.__module__}.{ReplayDrafter.__qualname__}"
_EXACT_CONTEXT = 1024
_EXACT_CACHE_TOKENS = 1280
"""Less than sixteen requests need, so that some are preempted."""
_RANDOM_TOKENS = 4
_ANY_SLOWDOWN = 100.0
"""Requests may pay for others: only the batch counts."""
MODEL_DRAFTS = "exact model"
"""The engine of a pool in which a model drafts."""
_MODEL_TOKENS = 3
_DISTURBANCE = 0.1
"""Added to a drafter's weights by chance, as a share of how far they spread."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine is loaded with."""

    model: ModelSettings
    drafter: str | None = None
    """Path of a drafter's class in place of ours."""


def plain_engines(
    model: ModelSettings, drafts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Engine]:
    """Return vLLM's own, by name.

    Args:
        drafts: vLLM's `speculative_config` of those in which a model drafts.
    """

    def with_(**arguments: Any) -> Engine:
        merged = model.engine_args | arguments
        return Engine(model.model_copy(update={"speculation": None, "engine_args": merged}))

    return {
        "plain": with_(),
        "ngram": with_(speculative_config=NGRAM),
        "long ngram": with_(speculative_config=LONG_NGRAM),
        "suffix": with_(speculative_config=SUFFIX),
        **{name: with_(speculative_config=dict(how)) for name, how in drafts.items()},
        "exact plain": Engine(_exact(with_().model)),
    }


def our_engines(model: ModelSettings, tables: Mapping[str, Path]) -> dict[str, Engine]:
    """Return those with our worker, by name.

    Args:
        tables: N-gram tables by language.
    """

    def with_(**how: Any) -> ModelSettings:
        speculation = SpeculationSettings(block_tokens=BLOCK_TOKENS, tables=dict(tables), **how)
        return model.model_copy(update={"speculation": speculation})

    forced = with_(is_adaptive=False, max_tokens=MOST_VERIFIED - 1)
    return {
        "modes": Engine(with_()),
        "auto": Engine(with_()),
        "batch": Engine(with_(max_slowdown=_ANY_SLOWDOWN)),
        "forced": Engine(forced, _REPLAY),
        "replay": Engine(with_(), _REPLAY),
        "exact forced": Engine(_crowded(with_(is_adaptive=False))),
        "exact adaptive": Engine(_crowded(with_())),
    }


def _crowded(model: ModelSettings) -> ModelSettings:
    """The same where prompts come in chunks and the cache is too small for all."""
    exact = _exact(model)
    arguments = {
        "num_gpu_blocks_override": _EXACT_CACHE_TOKENS // model.block_size,
        "max_num_seqs": 16,
        "max_num_batched_tokens": 320,
    }
    return exact.model_copy(update={"engine_args": exact.engine_args | arguments})


def _exact(model: ModelSettings) -> ModelSettings:
    """In float32, where no two engines may differ but at ties."""
    context = min(_EXACT_CONTEXT, model.max_model_len or _EXACT_CONTEXT)
    return model.model_copy(update={"dtype": "float32", "max_model_len": context})


def model_drafts(model: ModelSettings, drafter: Path) -> Engine:
    """Return the engine of a pool with a drafter, where the cache is too small for all."""
    drafters = {"en": DrafterSettings(source=str(drafter), num_tokens=_MODEL_TOKENS)}
    speculation = SpeculationSettings(drafters=drafters)
    pool = model.model_copy(update={"speculation": speculation, "pool": "en"})
    return Engine(_crowded(pool))


def draft_model(model: ModelSettings) -> dict[str, Any] | None:
    """Return vLLM's settings of the first neural drafter that a model names; None without one."""
    if model.speculation is None:
        return None
    for drafter in model.speculation.drafters.values():
        return {
            "method": drafter.method,
            "model": drafter.source,
            "num_speculative_tokens": drafter.num_tokens,
        }
    return None


def disturbed(path: Path, folder: Path) -> Path:
    """Write a model that says what another does now and then: the other, disturbed.

    Args:
        path: The other.
        folder: Where it is put.

    Returns: The folder.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            spread = float(weights.std()) if weights.ndim > 1 else 0.0
            weights.add_(torch.randn_like(weights), alpha=_DISTURBANCE * spread)
    model.to(torch.bfloat16).save_pretrained(folder)
    for file in path.glob("*token*"):
        shutil.copy(file, folder)
    return folder


def random_drafter(path: Path, folder: Path) -> dict[str, Any]:
    """Write a small model of random weights and a model's vocabulary, and return vLLM's settings.

    Args:
        path: The model.
        folder: Where the drafter is put.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    told = json.loads((path / "config.json").read_bytes())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=told["vocab_size"],
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=told["max_position_embeddings"],
    )
    drafter: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    drafter.to(torch.bfloat16).save_pretrained(folder)
    for file in path.glob("*token*"):
        shutil.copy(file, folder)
    return {
        "method": "draft_model",
        "model": str(folder),
        "num_speculative_tokens": _RANDOM_TOKENS,
    }
