"""Disks and memory that are too small, told in a sentence."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from headstart.stages.errors import SetupError

__all__ = ["check_disk", "disk_faults"]


_FULL = ("No space left", "unexpected pos", "file write failed")
"""What torch and safetensors make of a disk that is full."""


def check_disk(out: Path, needed: int, what: str) -> None:
    """Refuse a folder, made if it is missing, that has too few bytes free.

    Args:
        what: What needs them.

    Raises:
        SetupError: It has.
    """
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise SetupError(
            f"{what} take {needed / 1e6:.0f} MB and {out} has {free / 1e6:.0f} free: free space "
            "there, or train fewer weights (a LoRA adapter, a smaller drafter)"
        )


@contextmanager
def disk_faults(out: Path) -> Iterator[None]:
    """Tell what a full disk, or too little memory, did to a run.

    Raises:
        SetupError: That is what ended it.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SetupError(
            "the model and a batch do not fit: lower --batch or --max-length, or train fewer "
            "weights (a LoRA adapter, a smaller drafter)"
        ) from error
    except Exception as error:
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not is_full and not any(text in str(error) for text in _FULL):
            raise
        raise SetupError(
            f"{out} is full: free space there, then run the same command again; it goes on from "
            "the last whole checkpoint"
        ) from error
