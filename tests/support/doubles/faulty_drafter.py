"""A drafter whose language decides how it fails."""

from collections.abc import Sequence
from typing import Any

from headstart.cluster.parallel_drafter import ParallelDrafter
from headstart.stages.drafting import Draft, Proposer, Source, Verdict

__all__ = ["FaultyDrafter"]


class _Faulty:
    def __init__(self, way: str, vocabulary: int) -> None:
        self._way = way
        self._vocabulary = vocabulary
        self._num_steps = 0

    def observe(self, verdict: Verdict) -> None:
        self._num_steps += 1

    def draft(self, max_tokens: int) -> Draft:
        if self._num_steps < 3:
            return Draft([0])  # good enough to be verified
        match self._way:
            case "raising":
                raise RuntimeError("cannot draft")
            case "negative":
                return Draft([-1])
            case "vocabulary":
                return Draft([self._vocabulary])
        return Draft([0] * (max_tokens + 1))


class FaultyDrafter(ParallelDrafter):
    """Where a drafter is asked for, one that fails after a few steps."""

    def __init__(self, vllm_config: Any) -> None:
        super().__init__(vllm_config)
        self._factories = {**self._factories, Source.DRAFTER: self._faulty}

    def _faulty(self, _: Sequence[int], language: str | None) -> Proposer | None:
        return None if language is None else _Faulty(language, self._vocabulary)
