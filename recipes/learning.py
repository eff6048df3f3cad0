"""What a run learns with: its samples, its model, and the machine's arithmetic and memory."""

import ctypes
import time
from pathlib import Path
from typing import Any

import torch

from headstart.recipes.attention import PACKED, register
from headstart.recipes.models import Chat, fingerprint, folder_of, load, need
from headstart.recipes.prompts import read_prompts
from headstart.recipes.samples import Sample, SampleFile, read_card
from headstart.recipes.training import TrainOptions
from headstart.stages.errors import SetupError

__all__ = ["faster_dtype", "keep_memory", "samples_for", "trained_model"]

_TRIAL_ROWS = 512
_TRIAL_S = 0.3


def samples_for(options: TrainOptions, chat: Chat) -> SampleFile | list[Sample]:
    if options.method == "sft":
        prompts = read_prompts(options.data)
        found = [
            Sample(each.id, chat.prompt(each.messages), chat.answer(each.answer), 0, 0, [])
            for each in prompts
            if each.answer
        ]
        if not found:
            raise SetupError(f"{options.data} has no `answer`s: `--method sft` learns those")
        return found
    card = read_card(options.data)
    if card["tokenizer"] != chat.identity:
        raise SetupError(
            f"{options.data} was collected with another tokenizer or chat template than "
            f"{options.model} has: collect from this model"
        )
    if card["weights"] != fingerprint(folder_of(options.model, options.adapter)):
        raise SetupError(
            f"{options.data} holds another model's answers than those of {options.model}"
            f"{' with its adapter' if options.adapter else ''}: collect from the model to train"
        )
    return SampleFile(options.data / "samples.jsonl")


def trained_model(options: TrainOptions, base: Path, device: str) -> Any:
    """Load weights to train: all in float32, or an adapter beside frozen ones."""
    attention = PACKED if device == "cpu" else "sdpa"
    register()
    if not options.lora_rank:
        return load(folder_of(options.model, options.adapter), device, "float32", attention)
    peft = need("peft")
    model = load(base, device, options.dtype, attention)
    if options.adapter is not None:
        rank = peft.PeftConfig.from_pretrained(options.adapter).r
        if rank != options.lora_rank:
            raise SetupError(f"{options.adapter} is of rank {rank}: give --lora-rank {rank}")
        return peft.PeftModel.from_pretrained(model, options.adapter, is_trainable=True)
    torch.manual_seed(options.seed)
    config = peft.LoraConfig(
        r=options.lora_rank,
        lora_alpha=2 * options.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, config)


def faster_dtype(device: str, width: int) -> str:
    """Return the dtype that matrices of this width are multiplied faster in, here.

    Many processors have no arithmetic for bfloat16, and imitate it.
    """
    if device != "cpu":
        return "bfloat16"
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        rows = torch.randn(_TRIAL_ROWS, width).to(dtype)
        matrix = torch.randn(width, width).to(dtype)
        count = 0
        for left in (_TRIAL_S / 10, _TRIAL_S):  # the first time is no measure
            began, count = time.monotonic(), 0
            while time.monotonic() - began < left:
                rows @ matrix
                count += 1
        rates[dtype] = count
    return "bfloat16" if rates[torch.bfloat16] >= rates[torch.float32] else "float32"


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""


def keep_memory() -> None:
    """Have the C library keep what is freed.

    Else each pass's hundreds of megabytes go back to the system, and come again page by page.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    mallopt(_TRIM_THRESHOLD, -1)
    mallopt(_MMAP_MAX, 0)
