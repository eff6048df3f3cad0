"""What `headstart recipe consistency train` is told."""

from dataclasses import dataclass
from pathlib import Path

from headstart.recipes.options import option
from headstart.recipes.training import RunOptions

__all__ = ["METHODS", "TrainOptions"]

METHODS = ("jacobi-forcing", "cllm", "sft")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """What `train` is told."""

    model: str = option("the model: a folder, a Hugging Face id, or builtin:NAME")
    data: Path = option("folder that `collect` made; for `--method sft` a .jsonl with answers")
    adapter: Path | None = option("LoRA adapter to go on with; the data must be made with it", None)
    method: str = option("loss", "jacobi-forcing", METHODS)
    lora_rank: int = option("rank of the LoRA adapter; 0 trains all weights", 0)
    consistency_weight: float = option("of the consistency loss", 1.0)
    ar_weight: float = option("of the next-token loss on the answers", 10.0)
    label_smoothing: float = option("of the next-token loss", 0.0)
    window: int = option("blocks in which noise grows from none to all", 8, least=1)
    copies: int = option("noises that each block is shown at, in one pass", 2, least=1)
    augment: float = option("share of wrong tokens that are set right, at random", 0.25)
    refill: float = option("share of tails whose end is drawn anew, as the server's are", 0.25)
    max_length: int = option(
        "longest packed sequence; longer samples lose their last blocks", 2048, least=1
    )
    held_out: int = option("samples set aside, one in twenty at most, to tell losses of", 32)
    workers: int = option("processes or GPUs, by Ray Train", 1, least=1)
