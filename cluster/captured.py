"""What a model says at the drafted positions of one step, taken around the sampler."""

from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise

import torch

__all__ = ["Captured"]

_NO_TOKEN = -1
"""vLLM's stand-in for a token that was not accepted."""


class Captured:
    """Stays where the logits are until it is read, so that nobody waits for it.

    A model that breaks gives NaN for a whole position: one value of each is looked at.

    Args:
        logits: A row for each position: of every request its last token, and its drafted ones.
        num_drafted: Of each request, in the order of the batch.
        is_watched: Of each request, whether anybody looks at its predictions.
        is_told: Whether the sampler looks for the likeliest tokens itself: they are `take`n from it
            then, and not looked for twice.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        num_drafted: Sequence[int],
        is_watched: Sequence[bool],
        *,
        is_told: bool = False,
    ) -> None:
        self._num_drafted = num_drafted
        self._is_watched = is_watched
        ends = [0, *accumulate(drafted + 1 for drafted in num_drafted)]
        self._spans = list(pairwise(ends))
        self._broken = logits[:, 0].isnan()
        runs = [] if is_told else self._runs()
        self._best = [_likeliest(logits[first:end]) for first, end in runs]

    def take(self, likeliest: torch.Tensor) -> None:
        """Take the likeliest token of each position from who has looked for them."""
        self._best = [likeliest[first:end] for first, end in self._runs()]

    def _runs(self) -> list[tuple[int, int]]:
        """Positions of neighbours that are watched, together."""
        found = []
        pairs = zip(self._is_watched, self._spans, strict=True)
        for is_watched, group in groupby(pairs, key=lambda pair: pair[0]):
            if is_watched:
                spans = [span for _, span in group]
                found.append((spans[0][0], spans[-1][1]))
        return found

    def cut(self, sampled: torch.Tensor) -> None:
        """Take back what was sampled from broken logits at drafted positions.

        Each request keeps the tokens before, and at least its first: that one would be the same
        without a draft.

        Args:
            sampled: As many tokens of each request as the longest draft has, and one; in place.
        """
        # Asking costs nothing on CPU. A GPU would have to be waited for.
        if sampled.device.type == "cpu" and not self._broken.any():
            return
        drafted = torch.tensor(self._num_drafted).to(sampled.device, non_blocking=True)
        places = torch.arange(sampled.shape[1], device=sampled.device) <= drafted[:, None]
        broken = torch.zeros_like(places).masked_scatter_(places, self._broken)
        broken[:, 0] = False
        sampled.masked_fill_(broken.cumsum(dim=1) > 0, _NO_TOKEN)

    def read(self) -> list[tuple[bool, list[int]]]:
        """Return of each request whether it is drafted and broken, and its predictions, if any."""
        values = torch.cat([self._broken.to(torch.int64), *self._best]).tolist()
        at = self._spans[-1][1]
        found = []
        for drafted, is_watched, (first, end) in zip(
            self._num_drafted, self._is_watched, self._spans, strict=True
        ):
            predictions = values[at : at + end - first] if is_watched else []
            at += len(predictions)
            found.append((drafted > 0 and any(values[first:end]), predictions))
        return found


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    """Return the likeliest token of each row."""
    # On CPU torch compares half precision one by one: converting first is quicker.
    return (logits.float() if logits.device.type == "cpu" else logits).argmax(dim=-1)
