"""Stand-ins for the decode benchmark's engines: what they say and how long it takes is known."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.decode_plan import QUICK, Plan
from headstart.benchmarks.decode_setup import Setup
from headstart.benchmarks.replay_drafter import Replayed
from headstart.cluster.engine_child import Asked, Done
from headstart.configs.model_settings import ModelSettings
from headstart.stages.speculation_counts import LanguageCounts, SourceCounts, SpeculationCounts
from headstart.stages.wish import Wish

STEP_S = 0.02
PREFILL_S = 0.5


def setup_in(folder: Path, plan: Plan = QUICK, *, is_quick: bool = True) -> Setup:
    """A run whose checkpoint is in a folder."""
    model = ModelSettings(name="tiny", source="nowhere")
    checkpoint = Checkpoint(folder / "checkpoint", {"run": 1})
    return Setup(model, folder, plan, is_quick, None, checkpoint)


class FakeRig:
    """Engines that answer a prompt always the same way.

    Args:
        missing: As a rig's.
        loops: What a prompt has in it whose answer loops.
        wrong: What a prompt has in it that our engines answer otherwise from the tenth token on.
        gap: Between the two likeliest tokens.
        waste: Times as long as it should that a step with drafts takes.
        company_s: What proposers and capture take in a step.
    """

    def __init__(
        self,
        *,
        missing: dict[str, str] | None = None,
        loops: str = "\0",
        wrong: str = "\0",
        gap: float = 1.0,
        waste: float = 1.0,
        company_s: float = 0.0,
    ) -> None:
        self.missing = missing or {}
        self.asked: list[str] = []
        """Engines, in the order in which they were asked."""
        self._loops, self._wrong, self._gap = loops, wrong, gap
        self._waste, self._company_s = waste, company_s

    def ready(self, names: Iterable[str]) -> None:
        """Nothing starts here."""

    def ask(self, name: str, asked: Sequence[Asked], max_tokens: int, **how: Any) -> Done:
        self.asked.append(name)
        answers = [self._answer(name, one, max_tokens) for one in asked]
        best: list[list[dict[int, float]]] = []
        if how.get("num_best"):
            best = [
                [{token: -0.1, token + 1: -0.1 - self._gap} for token in one] for one in answers
            ]
        decode_s, counts = self._took(name, asked[0], len(asked), max_tokens)
        first, last = PREFILL_S, PREFILL_S + decode_s
        num = len(asked)
        told = None if name in ("plain", "ngram", "exact plain") else counts
        prompts = [_ids(one.prompt) for one in asked]
        return Done(prompts, answers, [first] * num, [last] * num, told, best, preempted=1)

    def _answer(self, name: str, asked: Asked, max_tokens: int) -> list[int]:
        ids = _ids(asked.prompt)
        text = bytes(ids).decode()
        if self._loops in text:
            return [5] * max_tokens
        answer = [(sum(ids) + index * index) % 97 for index in range(max_tokens)]
        if self._wrong in text and not name.endswith("plain"):
            answer[10:] = [token + 1 for token in answer[10:]]
        return answer

    def _took(
        self, name: str, asked: Asked, num: int, max_tokens: int
    ) -> tuple[float, SpeculationCounts]:
        how = Replayed.of(Wish.of(asked.arguments, "auto").language)
        right = how.num_right if how is not None else 0
        # The controller drafts what is right, and no more.
        drafted = 0 if how is None else right if name == "replay" else how.num_drafted
        step_s = STEP_S * (1 + 0.05 * drafted)
        if drafted and right:
            step_s *= self._waste
        company_s = self._company_s if how is not None and how.company_tokens else 0.0
        longest = how.num_drafted if how is not None else 0
        verify, at = 0, 1
        while drafted and at + longest < max_tokens:  # until there is no room for a whole draft
            verify, at = verify + 1, at + right + 1
        plain = max_tokens - at
        drafts = SourceCounts(num * verify, [num * verify], [0])
        counts = SpeculationCounts(
            plain_steps=plain,
            verify_steps=verify,
            mixed_steps=1,
            draft_s=(plain + verify) * company_s,
            verify_s=verify * step_s,
            plain_s=plain * STEP_S,
            languages={
                "none": LanguageCounts(
                    num * (plain + verify + 1), num * max_tokens, {"drafter": drafts}
                )
            },
        )
        return verify * step_s + plain * STEP_S + (plain + verify) * company_s, counts


def _ids(prompt: str | list[int]) -> list[int]:
    return list(prompt.encode()) if isinstance(prompt, str) else prompt
