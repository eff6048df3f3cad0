"""The controller fails itself: answers go on without drafts, counted, and said once."""

from collections.abc import Sequence
from typing import Any

import pytest

from headstart.stages import speculation as module
from headstart.stages.choosing import Choosing
from headstart.stages.copy_drafter import CopyDrafter
from headstart.stages.draft_length import Acceptance, DraftLengths
from headstart.stages.drafting import Proposer, Source, Verdict
from headstart.stages.index_budget import IndexBudget
from headstart.stages.lead import Lead
from headstart.stages.probing import Probing
from headstart.stages.speculation import RowStep, Speculation
from headstart.stages.speculation_counts import SpeculationCounts
from headstart.stages.speculation_labels import Undrafted
from headstart.stages.step_cost import StepCost
from headstart.stages.wish import Wish

PROMPT = [1, 2, 3, 4] * 4


class Engine:
    """Repeats its prompt, so that what is copied is right."""

    def __init__(self, **options: Any) -> None:
        def copying(tokens: Sequence[int], _: str | None) -> Proposer:
            return CopyDrafter(tokens)

        self.said: list[Exception] = []
        self.speculation = Speculation(
            {Source.COPY: copying},
            [Source.COPY],
            max_tokens=3,
            vocabulary=9,
            on_fault=self.said.append,
            **options,
        )
        self.tokens: dict[str, list[int]] = {}
        self._drafts: dict[str, list[int]] = {}

    def begin(self, request: str) -> None:
        self.tokens[request], self._drafts[request] = list(PROMPT), []
        self.speculation.begin(request, PROMPT, Wish("auto", "de"))

    def step(self) -> list[list[int]]:
        steps = []
        for request, tokens in self.tokens.items():
            assert self.speculation.num_tokens(request) == len(tokens)
            drafted = self._drafts[request]
            gained = [(len(tokens) + more) % 4 + 1 for more in range(len(drafted) + 1)]
            assert drafted == gained[:-1]
            tokens.extend(gained)
            steps.append(RowStep(request, Verdict(gained, drafted), room=3))
        num_drafted = sum(map(len, self._drafts.values()))
        found = self.speculation.step(steps, seconds=0.02 * (1 + 0.01 * num_drafted))
        self._drafts = dict(zip(self.tokens, found, strict=True))
        self.speculation.spent(0.0001)
        return found

    def runs(self, num_steps: int) -> int:
        """Return how many tokens were drafted."""
        return sum(len(draft) for _ in range(num_steps) for draft in self.step())


def failing(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError


PARTS = [
    (StepCost, "observe"),
    (StepCost, "proposed"),
    (StepCost, "seconds"),
    (Acceptance, "observe"),
    (Acceptance, "survival"),
    (DraftLengths, "choose"),
    (DraftLengths, "price"),
    (Lead, "slack_s"),
    (Probing, "step"),
    (Choosing, "drafts"),
    (IndexBudget, "begin_step"),
    (SpeculationCounts, "decided"),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part[0].__name__}.{part[1]}")
def test_fault_of_the_controller_leaves_answers_without_drafts(
    part: tuple[type, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine()
    engine.begin("a")
    engine.begin("b")
    assert engine.runs(20) > 20

    with monkeypatch.context() as patch:
        patch.setattr(*part, failing)
        engine.step()
        assert engine.runs(20) == 0

    assert engine.runs(20) == 0  # whatever led there is theirs
    assert engine.speculation.counts.fallbacks == {Undrafted.CONTROLLER: 2}
    assert [type(error) for error in engine.said] == [ZeroDivisionError]
    assert engine.speculation.drafted_for("a").accepted > 0
    engine.begin("c")
    assert engine.runs(20) > 20


def test_request_that_cannot_be_taken_up_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    engine.begin("a")
    assert engine.runs(5) > 5

    with monkeypatch.context() as patch:
        patch.setattr(module, "counted_as", failing)
        engine.begin("b")

    assert engine.runs(20) == 0
    assert engine.speculation.counts.fallbacks == {Undrafted.CONTROLLER: 2}
    assert len(engine.said) == 1


def test_fault_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    monkeypatch.setattr(DraftLengths, "choose", failing)
    for number in range(10):
        engine.begin(f"{number}")
        engine.step()

    assert len(engine.said) == 1
    assert engine.speculation.counts.fallbacks == {Undrafted.CONTROLLER: 10}
