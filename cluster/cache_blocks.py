"""Whether blocks of 16 tokens are for vLLM's attention on this processor, or 32 as it has them.

Its portable kernel has both sizes (`vec16`, `vec`). The kernels for one kind of processor take
multiples of 32 only, and with 16 vLLM would leave them for the portable one.
"""

from collections.abc import Callable

from headstart.configs.model_settings import CPU_BLOCK_TOKENS, SMALL_CPU_BLOCK_TOKENS

__all__ = ["why_not_small"]

_SMALL = "vec16"
_PORTABLE = ("vec", _SMALL)


def why_not_small(kernel_for: Callable[[int], str], *, is_quantised: bool) -> str | None:
    """Return why blocks must have 32 tokens; None if 16 are as good.

    Args:
        kernel_for: Says by vLLM's name what it attends with in blocks of so many tokens.
        is_quantised: Whether keys and values are stored in fewer bits than they are made in.
    """
    if is_quantised:
        return "the KV cache is quantised"
    if (kernel := kernel_for(CPU_BLOCK_TOKENS)) not in _PORTABLE:
        return f"the attention kernel {kernel} takes multiples of 32"
    if (kernel := kernel_for(SMALL_CPU_BLOCK_TOKENS)) != _SMALL:
        return f"the attention kernel {kernel} is not known to take 16"
    return None
