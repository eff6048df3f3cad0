"""A pool's settings as its engine gets them: weights on disk, the card heard, what drafts checked.

The daemon asks for it before it starts Ray, and a replica, which may be on another machine, again.
"""

from pathlib import Path
from typing import Any

from headstart.cluster.model_card import with_card
from headstart.cluster.model_folder import model_shape
from headstart.cluster.model_source import resolve
from headstart.cluster.parallel_drafter import plan_of
from headstart.cluster.tokenizer_hash import has_tokenizer, tokenizer_hash
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import DrafterSettings
from headstart.stages.errors import SetupError

__all__ = ["TELLING_NAMES", "check_drafter", "prepared"]

TELLING_NAMES = ("eagle-", "eagle3", "dflash", "dspark")
"""Where vLLM finds one of these in the path of a model that drafts, it takes that for a head,
whatever it was told (`vllm/config/speculative.py`)."""


def prepared(model: ModelSettings, cache_dir: Path) -> tuple[ModelSettings, Path]:
    """Return the settings of one of a model's pools, and the folder of the model's weights.

    The drafter's source is a folder too, and speculation is on if the card says so.

    Raises:
        SetupError: A source is as `resolve` refuses it, or the card, a table or the drafter is not
            fit.
    """
    folder = resolve(model.source, cache_dir)
    model = with_card(_with_drafter(model, cache_dir), folder)
    if model.speculation is not None:
        if model.drafter is not None:
            check_drafter(model.drafter, folder)
        plan_of(model.speculation, folder, model.drafted_languages)
    return model, folder


def _with_drafter(model: ModelSettings, cache_dir: Path) -> ModelSettings:
    if model.speculation is None or (drafter := model.drafter) is None:
        return model
    source = resolve(drafter.source, cache_dir, is_head=drafter.is_head)
    found = drafter.model_copy(update={"source": str(source)})
    speculation = model.speculation.model_copy(update={"drafters": {model.pool: found}})
    return model.model_copy(update={"speculation": speculation})


def check_drafter(drafter: DrafterSettings, target: Path) -> None:
    """Refuse a drafter that was not made for a model.

    It would be right now and then, by ids that mean something else; or vLLM would fail in the
    middle of loading it.

    Args:
        drafter: Its source is a folder.
        target: Folder of the model.

    Raises:
        SetupError: Its tokenizer or its sizes are others.
    """
    folder = Path(drafter.source)
    own, wanted = model_shape(folder), model_shape(target)
    _check_kind(drafter, folder)
    if drafter.is_head:
        _check_head(drafter, own, wanted)
        if not has_tokenizer(folder):
            return  # its model's is meant
    elif _differ(own, wanted, "vocab_size"):
        raise SetupError(
            f"the drafter {folder} has a vocabulary of {own['vocab_size']} tokens, the model has "
            f"{wanted['vocab_size']}: a trimmed one is to be written at the model's size "
            "(`headstart recipe drafter export --full`)"
        )
    if tokenizer_hash(folder) != tokenizer_hash(target):
        raise SetupError(
            f"the drafter {folder} was made with another tokenizer than that of {target}: take one "
            "of the model's family, or make one from its answers"
        )


def _check_kind(drafter: DrafterSettings, folder: Path) -> None:
    """A head has `fc`, which takes the model's hidden states in; a model has layers of its own."""
    names = _tensors(folder)
    has_fc = any(name.startswith(("fc.", "model.fc.")) for name in names)
    if drafter.is_head and not has_fc and any(name.startswith("model.layers.") for name in names):
        raise SetupError(
            f"the drafter {folder} is a model, and no EAGLE head: set its `method` to `draft_model`"
        )
    if has_fc and not drafter.is_head:
        raise SetupError(
            f"the drafter {folder} is an EAGLE head: set its `method` to `eagle` or `eagle3`"
        )
    telling = [name for name in TELLING_NAMES if name in str(folder).lower()]
    if telling and not drafter.is_head:
        raise SetupError(
            f"vLLM takes a drafter with `{telling[0]}` in its path for a head: rename {folder}"
        )


def _tensors(folder: Path) -> set[str]:
    """Names of its weights; none where they are in another format than safetensors."""
    from safetensors import safe_open

    found: set[str] = set()
    for shard in folder.glob("*.safetensors"):
        with safe_open(shard, framework="numpy") as file:
            found.update(file.keys())
    return found


def _check_head(drafter: DrafterSettings, own: dict[str, Any], wanted: dict[str, Any]) -> None:
    """A head reads the model's hidden states: `fc` takes vectors of just that length."""
    if drafter.method == "eagle3" and own.get("target_hidden_size") is not None:
        own = {"hidden_size": own["target_hidden_size"]}
    if _differ(own, wanted, "hidden_size"):
        raise SetupError(
            f"the EAGLE head {drafter.source} reads hidden states of {own['hidden_size']} numbers, "
            f"the model has {wanted['hidden_size']}: take the head of this model"
        )


def _differ(own: dict[str, Any], wanted: dict[str, Any], name: str) -> bool:
    """Whether both say it, and not the same: some formats keep it elsewhere."""
    known = own.get(name), wanted.get(name)
    return None not in known and known[0] != known[1]
