"""What training makes small: how far a noisy block's predictions are from those of the answer.

The head has as many columns as the vocabulary has tokens. It is applied only where a prediction
counts, a few rows at a time, and each row's gradient is worked out with its loss: what the logits
of a whole batch would take in memory and time is never taken.
"""

from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Losses", "losses_of"]

_ROWS = {"cpu": 128, "cuda": 2048}
"""Whose logits are held at once: 25 MB of them stay in a processor's cache."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one batch."""

    total: torch.Tensor
    """Weighted; the one that has a gradient."""
    consistency: torch.Tensor
    """Mean over the students."""
    autoregressive: torch.Tensor
    """Mean over the answer's tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """Which rows count, and how much. Indices point into the flattened batch."""

    students: torch.Tensor
    teachers: torch.Tensor
    """Of each student, its teacher's place in `learned`."""
    learned: torch.Tensor
    nexts: torch.Tensor
    """Of each learned row, the token that follows."""
    consistency_weight: float
    ar_weight: float
    label_smoothing: float
    dtype: torch.dtype


def losses_of(
    hidden: torch.Tensor,
    head: torch.Tensor,
    tokens: torch.Tensor,
    students: torch.Tensor,
    teachers: torch.Tensor,
    learned: torch.Tensor,
    *,
    consistency_weight: float = 1.0,
    ar_weight: float = 1.0,
    label_smoothing: float = 0.0,
    dtype: torch.dtype | None = None,
) -> Losses:
    """Compare what the model says behind noise with what it says behind the answer as it is.

    The teacher is the model itself, detached. Indices point into the flattened batch.

    Args:
        hidden: (rows, length, width), what the head is applied to.
        head: (vocabulary, width).
        tokens: (rows, length).
        students: Where noisy predictions count.
        teachers: Of each student, the same place in the answer; each of them is in `learned`.
        learned: Where the answer's own next token is learned, in order.
        dtype: That products are computed in; None is the head's own.
    """
    teachers, order = teachers.sort()
    counted = _Counted(
        students=students[order],
        teachers=torch.searchsorted(learned, teachers),
        learned=learned,
        nexts=tokens.flatten()[learned + 1],
        consistency_weight=consistency_weight,
        ar_weight=ar_weight,
        label_smoothing=label_smoothing,
        dtype=dtype or head.dtype,
    )
    found: tuple[torch.Tensor, ...] = _Fused.apply(hidden, head, counted)  # type: ignore[no-untyped-call]
    return Losses(*found)


class _Fused(torch.autograd.Function):
    """Both losses, and their gradients at once."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, head: torch.Tensor, counted: _Counted) -> Any:
        """Return the weighted sum, and both means."""
        work = _Work(hidden, head, counted.dtype, needs_head=ctx.needs_input_grad[1])
        consistency, autoregressive = _both(work, counted)
        ctx.save_for_backward(work.hidden_slopes, work.head_slopes)
        ctx.shape, ctx.dtype = hidden.shape, hidden.dtype
        total = counted.consistency_weight * consistency + counted.ar_weight * autoregressive
        ctx.mark_non_differentiable(consistency, autoregressive)
        return total, consistency, autoregressive

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> Any:
        hidden_slopes, head_slopes = ctx.saved_tensors
        own = (hidden_slopes * slopes[0]).view(ctx.shape).to(ctx.dtype)
        return own, None if head_slopes is None else head_slopes * slopes[0], None


class _Work:
    """Rows of the batch times the head, and back."""

    def __init__(
        self, hidden: torch.Tensor, head: torch.Tensor, dtype: torch.dtype, *, needs_head: bool
    ) -> None:
        self._hidden = hidden.detach().flatten(0, 1).to(dtype)
        self._head = head.detach().to(dtype)
        self.rows = _ROWS[hidden.device.type]
        self.hidden_slopes = torch.zeros_like(self._hidden)
        self.head_slopes = torch.zeros_like(head, dtype=torch.float32) if needs_head else None

    def logs(self, at: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of what the model says there."""
        return torch.log_softmax((self._hidden[at] @ self._head.T).float(), dim=-1)

    def learn(self, at: torch.Tensor, slopes: torch.Tensor) -> None:
        """Take the loss's slopes by the logits there."""
        slopes = slopes.to(self._head.dtype)
        self.hidden_slopes[at] = slopes @ self._head
        if self.head_slopes is not None:
            self.head_slopes += slopes.T @ self._hidden[at]


def _both(work: _Work, counted: _Counted) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both means, their slopes being learned."""
    like = work.hidden_slopes
    divergence = torch.zeros((), dtype=torch.float32, device=like.device)
    surprise = divergence.clone()
    num_students, num_learned = max(1, len(counted.students)), max(1, len(counted.learned))
    smoothing = counted.label_smoothing
    begins = torch.arange(0, len(counted.learned) + work.rows, work.rows, device=like.device)
    bounds = torch.searchsorted(counted.teachers, begins).tolist()
    for number, begin in enumerate(range(0, len(counted.learned), work.rows)):
        some = slice(begin, begin + work.rows)
        at, nexts = counted.learned[some], counted.nexts[some, None]
        logs = work.logs(at)
        meant = logs.exp()
        for first in range(bounds[number], bounds[number + 1], work.rows):
            part = slice(first, min(first + work.rows, bounds[number + 1]))
            students, teachers = counted.students[part], counted.teachers[part] - begin
            said = work.logs(students)
            right = meant[teachers]
            divergence += (right * (logs[teachers] - said)).sum()
            slopes = said.exp_().sub_(right).mul_(counted.consistency_weight / num_students)
            work.learn(students, slopes)
        surprise -= (1 - smoothing) * logs.gather(1, nexts).sum()
        if smoothing:
            surprise -= smoothing * logs.mean(dim=-1).sum()
            meant -= smoothing / logs.shape[-1]
        meant.scatter_add_(1, nexts, meant.new_full(nexts.shape, smoothing - 1))
        work.learn(at, meant.mul_(counted.ar_weight / num_learned))
    return divergence / num_students, surprise / num_learned
