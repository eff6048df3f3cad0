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


def check_disk(out: Path, needed: float, what: str, instead: str) -> None:
    """Refuse a folder, there already or not, that has too few bytes free.

    Args:
        what: What needs them.
        instead: What else helps but more space.

    Raises:
        SetupError: It has.
    """
    existing = next(each for each in (out, *out.absolute().parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise SetupError(
            f"{what} take {needed / 1e6:.0f} MB and {existing} has {free / 1e6:.0f} free: free "
            f"space there, or {instead}"
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
