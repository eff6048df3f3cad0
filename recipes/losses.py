"""What training makes small: how far a noisy block's predictions are from those of the answer."""

from dataclasses import dataclass

import torch
from torch.nn import functional

__all__ = ["Losses", "losses_of"]


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one batch, each a mean over the tokens that count."""

    consistency: torch.Tensor
    autoregressive: torch.Tensor


def losses_of(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    students: torch.Tensor,
    teachers: torch.Tensor,
    learned: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
) -> Losses:
    """Compare what the model says behind noise with what it says behind the answer as it is.

    The teacher is the model itself, detached. Indices point into the flattened batch.

    Args:
        logits: (rows, length, vocabulary).
        tokens: (rows, length).
        students: Where noisy predictions count.
        teachers: Of each student, the same place in the answer.
        learned: Where the answer's own next token is learned.
    """
    flat = logits.flatten(0, 1)
    # An empty batch costs nothing, and is still part of the graph.
    consistency = autoregressive = flat[:0].sum()
    if len(students):
        said = functional.log_softmax(flat[students].float(), dim=-1)
        meant = functional.log_softmax(flat[teachers].detach().float(), dim=-1)
        consistency = functional.kl_div(said, meant, reduction="batchmean", log_target=True)
    if len(learned):
        autoregressive = functional.cross_entropy(
            flat[learned].float(),
            tokens.flatten()[learned + 1],
            label_smoothing=label_smoothing,
        )
    return Losses(consistency, autoregressive)
