"""What a long-lived process does with its memory."""

import gc

__all__ = ["keep_loaded"]

_YOUNG = 10_000
"""Objects made before the collector looks for rings among them: 500 streams make Python's own 2,000
within a step, and most are gone before the next."""


def keep_loaded() -> None:
    """Take what is loaded by now out of the collector's rounds: it stays as long as the process.

    Otherwise every full round walks all modules of Ray, vLLM or the web server, while every stream
    of the process stands still.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
