"""What a run learns with: the machine's arithmetic and memory."""

import ctypes
import time

import torch

__all__ = ["faster_dtype", "keep_memory"]

_TRIAL_ROWS = 512
_TRIAL_S = 0.3


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
