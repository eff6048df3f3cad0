"""What a run learns with: the machine's arithmetic and memory."""

import ctypes
import time

import torch

__all__ = ["faster_dtype", "keep_memory", "settled"]

_TRIAL_ROWS = 512
_TRIALS, _TRIAL_S = 8, 0.04
_NEAR = 1.25
"""Times as fast that is no reason: two runs on a machine with neighbours shall settle alike."""


def faster_dtype(device: str, width: int) -> str:
    """Return the dtype that matrices of this width are multiplied faster in, here.

    Many processors have no arithmetic for bfloat16, and imitate it.
    """
    if device != "cpu":
        return "bfloat16"
    counts = dict.fromkeys((torch.float32, torch.bfloat16), 0)
    for trial in range(_TRIALS + 1):  # in turn, so that a neighbour slows both
        for dtype in counts:
            rows = torch.randn(_TRIAL_ROWS, width).to(dtype)
            matrix = torch.randn(width, width).to(dtype)
            began, count = time.monotonic(), 0
            while time.monotonic() - began < _TRIAL_S:
                rows @ matrix
                count += 1
            counts[dtype] += count if trial else 0  # the first time is no measure
    return settled(counts[torch.float32], counts[torch.bfloat16])


def settled(float32_rate: float, bfloat16_rate: float) -> str:
    """Return the dtype of a run by the rates of both: float32 where it is clearly faster."""
    return "float32" if float32_rate > _NEAR * bfloat16_rate else "bfloat16"


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
