"""Attention of packed sequences on a processor, from plain products of matrices.

torch's own kernel for processors works through what a mask hides too, and took three times as long:
27 ms against 9 for a layer of SmolLM2-135M, forward and backward, over 470 tokens in bfloat16.
"""

from typing import Any

import torch

__all__ = ["PACKED", "packed_attention", "register"]

PACKED = "headstart-packed"
"""Its name among transformers' kinds of attention."""

_ROWS = 128
"""Tokens whose scores are computed at once."""


def register() -> None:
    """Make it known to transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, sdpa_mask)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers has it done.

    Args:
        query: (rows, heads, length, width); key and value may have fewer heads.
        attention_mask: (rows, 1, length, length), true where a token sees another: itself, and none
            that stands behind it in the sequence. A pack's mask is like that; without one, or with
            keys from a cache, the work is torch's.
    """
    if attention_mask is None or query.shape[2] != key.shape[2]:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **rest
        )
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    length = query.shape[2]
    parts = []
    for begin in range(0, length, _ROWS):
        end = min(begin + _ROWS, length)
        hidden = ~attention_mask[:, :, begin:end, :end]
        some = (query[:, :, begin:end], key[:, :, :end], value[:, :, :end])
        parts.append(_attend(*some, hidden, scale))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, hidden: torch.Tensor, scale: float
) -> torch.Tensor:
    rows, heads, num, width = query.shape
    groups, seen = heads // key.shape[1], key.shape[2]
    dtype = value.dtype
    # Heads that share keys are more rows of one product.
    shared = rows * key.shape[1]
    bias = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, float("-inf"))
    scores = torch.baddbmm(
        bias.repeat(1, key.shape[1], groups, 1).view(shared, groups * num, seen),
        query.to(dtype).reshape(shared, groups * num, width),
        key.to(dtype).reshape(shared, seen, width).transpose(1, 2),
        alpha=scale,
    )
    said = torch.bmm(torch.softmax(scores, dim=-1), value.reshape(shared, seen, width))
    return said.view(rows, heads, num, width)
