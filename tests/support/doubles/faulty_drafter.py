"""A drafter whose language decides how it fails, and a model that breaks where drafts are verified.

vLLM loads it in the process of its engine core.
"""

from collections.abc import Sequence
from typing import Any

from headstart.cluster.parallel_drafter import ParallelDrafter
from headstart.cluster.runner_adapter import _ParallelRunner
from headstart.stages.drafting import Draft, Proposer, Source, Verdict

__all__ = ["FaultyDrafter"]

BROKEN = "broken"
"""Extra argument of a request whose logits are NaN at every drafted position."""


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


def _break(runner: Any, logits: Any, metadata: Any) -> None:
    """Where a plain step has logits, they stay."""
    first = 0
    for request, drafted in zip(
        runner.input_batch.req_ids, metadata.num_draft_tokens if metadata else (), strict=False
    ):
        if BROKEN in (runner.requests[request].sampling_params.extra_args or ()):
            logits[first + 1 : first + 1 + drafted] = float("nan")
        first += drafted + 1


class FaultyDrafter(ParallelDrafter):
    """Where a drafter is asked for, one that fails after a few steps."""

    def __init__(self, vllm_config: Any) -> None:
        super().__init__(vllm_config)
        self._factories = {**self._factories, Source.DRAFTER: self._faulty}
        sample = _ParallelRunner._sample

        def breaking(runner: Any, logits: Any, metadata: Any) -> Any:
            _break(runner, logits, metadata)
            return sample(runner, logits, metadata)

        _ParallelRunner._sample = breaking  # type: ignore[assignment, method-assign]

    def _faulty(self, _: Sequence[int], language: str | None) -> Proposer | None:
        return None if language is None else _Faulty(language, self._vocabulary)
