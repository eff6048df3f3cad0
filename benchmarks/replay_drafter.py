"""A drafter that knows the answer: exactly so many of its tokens are right, to measure the rest.

What it is to replay travels as the request's language, in JSON.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from headstart.cluster.parallel_drafter import ParallelDrafter
from headstart.stages.drafting import Draft, Proposer, Source, Verdict
from headstart.stages.proposing import Factory
from headstart.stages.wish import wish_arguments

__all__ = ["ReplayDrafter", "Replayed", "write_answers"]

Answers = list[tuple[list[int], list[int]]]
"""Prompt and answer, as token ids."""


class Replayed(msgspec.Struct, frozen=True):
    """How an answer that is known is drafted."""

    path: str
    """File of answers by prompt."""
    num_right: int
    num_drafted: int
    language: str | None = None
    """Of the real proposers."""
    company_tokens: int = 0
    """Most that the real proposers are asked for besides, which is thrown away; 0 asks none."""

    def arguments(self, mode: str) -> dict[str, str]:
        """Return the extra arguments of a request.

        Args:
            mode: `drafter`; `jacobi` has the model's predictions captured; `auto` is all there is.
        """
        how = msgspec.json.encode(self).decode()
        return wish_arguments(mode, how)

    @classmethod
    def of(cls, language: str | None) -> "Replayed | None":
        """Read what `arguments` wrote; None where a request names a language, or none."""
        if language is None or not language.startswith("{"):
            return None
        return msgspec.json.decode(language, type=cls)


def write_answers(path: Path, answers: Answers) -> None:
    """Write what `ReplayDrafter` shall know."""
    path.write_bytes(msgspec.msgpack.encode(answers))


def _read(path: str) -> dict[tuple[int, ...], list[int]]:
    found = msgspec.msgpack.decode(Path(path).read_bytes(), type=Answers)
    return {tuple(prompt): answer for prompt, answer in found}


class _Replay:
    def __init__(
        self, answer: list[int], at: int, how: Replayed, real: Proposer | None, vocabulary: int
    ) -> None:
        self._answer = answer
        self._at = at
        self._how = how
        self._real = real
        self._vocabulary = vocabulary

    def observe(self, verdict: Verdict) -> None:
        self._at += len(verdict.tokens)
        if self._real is not None:
            self._real.observe(verdict)

    def draft(self, max_tokens: int) -> Draft | None:
        if self._real is not None:
            # An engine whose drafts are not long by force asks for no more.
            self._real.draft(min(max_tokens, self._how.company_tokens))
        # Not at the end: a draft that is cut would make steps of another size.
        num, right = self._how.num_drafted, self._how.num_right
        coming = self._answer[self._at : self._at + num]
        if len(coming) < num or max_tokens < num:
            return None
        wrong = [(token + 1) % self._vocabulary for token in coming[right:]]
        # What is learnt of drafts that are right so often is nothing to the others.
        return Draft(coming[:right] + wrong, grade=right)


class ReplayDrafter(ParallelDrafter):
    """Ours, where any proposer may be replaced by one that knows."""

    def __init__(self, vllm_config: Any) -> None:
        super().__init__(vllm_config)
        self._factories = {
            source: self._replaying(source, factory) for source, factory in self._factories.items()
        }

    def _replaying(self, source: Source, real: Factory) -> Factory:
        def make(tokens: Sequence[int], language: str | None) -> Proposer | None:
            how = Replayed.of(language)
            if how is None:
                return real(tokens, language)
            company = real(tokens, how.language) if how.company_tokens else None
            return self._replay(tokens, how, company)

        return make

    def _replay(
        self, tokens: Sequence[int], how: Replayed, company: Proposer | None
    ) -> Proposer | None:
        answers = _read(how.path)
        for begun in range(4):  # the first step's tokens may be there already
            answer = answers.get(tuple(tokens[: len(tokens) - begun]))
            if answer is not None:
                return _Replay(answer, begun, how, company, self._vocabulary)
        return None
