"""A drafter that knows the answer: exactly so many of its tokens are right, to measure the rest.

What it is to replay travels as the request's language: how many tokens are right, how many are
drafted, and a file of answers by prompt.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from headstart.cluster.parallel_drafter import ParallelDrafter
from headstart.stages.drafting import Draft, Proposer, Source, Verdict

__all__ = ["ReplayDrafter", "replaying", "write_answers"]

Answers = list[tuple[list[int], list[int]]]
"""Prompt and answer, as token ids."""


def write_answers(path: Path, answers: Answers) -> None:
    """Write what `ReplayDrafter` shall know."""
    path.write_bytes(msgspec.msgpack.encode(answers))


def replaying(path: Path, num_right: int, num_drafted: int) -> dict[str, str]:
    """Return the extra arguments of a request that is to be replayed."""
    return {
        "headstart_speculation": Source.DRAFTER,
        "headstart_language": f"{num_right}/{num_drafted}/{path}",
    }


def _read(path: str) -> dict[tuple[int, ...], list[int]]:
    found = msgspec.msgpack.decode(Path(path).read_bytes(), type=Answers)
    return {tuple(prompt): answer for prompt, answer in found}


class _Replay:
    def __init__(self, answer: list[int], right: int, drafted: int, vocabulary: int) -> None:
        self._answer = answer
        self._right = right
        self._drafted = drafted
        self._vocabulary = vocabulary
        self._at = 0

    def observe(self, verdict: Verdict) -> None:
        self._at += len(verdict.tokens)

    def draft(self, max_tokens: int) -> Draft | None:
        # Not at the end: a draft that is cut would make steps of another size.
        coming = self._answer[self._at : self._at + self._drafted]
        if len(coming) < self._drafted or max_tokens < self._drafted:
            return None
        wrong = [(token + 1) % self._vocabulary for token in coming[self._right :]]
        return Draft(coming[: self._right] + wrong)


class ReplayDrafter(ParallelDrafter):
    """Ours, with the one that knows in the place of language drafters."""

    def __init__(self, vllm_config: Any) -> None:
        super().__init__(vllm_config)
        self._factories = {**self._factories, Source.DRAFTER: self._replay}

    def _replay(self, tokens: Sequence[int], language: str | None) -> Proposer | None:
        if language is None or "/" not in language:
            return None
        right, drafted, path = language.split("/", 2)
        answers = _read(path)
        for begun in range(4):  # the first step's tokens may be there already
            answer = answers.get(tuple(tokens[: len(tokens) - begun]))
            if answer is not None:
                replay = _Replay(answer, int(right), int(drafted), self._vocabulary)
                replay.observe(Verdict(tokens[len(tokens) - begun :]))
                return replay
        return None
