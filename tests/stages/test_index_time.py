"""What indexing takes of the steps' time, and who is charged with it."""

from collections.abc import Sequence

import pytest

from headstart.stages.copy_drafter import CopyDrafter
from headstart.stages.drafting import Proposer, Source, Verdict
from headstart.stages.index_budget import IndexBudget
from headstart.stages.speculation import RowStep, Speculation
from headstart.stages.wish import Wish
from tests.stages import simulated_decoding as simulated

PROMPT_TOKENS = 12_000
LOOK_S = 30e-6
"""What looking for a draft takes, for each request."""
TAKE_UP_S = 1e-3
"""The same of taking up a long prompt."""


class Engine:
    """Says nothing twice, so that there is never a draft, and tells what indexing took.

    Args:
        token_s: What indexing a token takes.
    """

    def __init__(self, token_s: float) -> None:
        self._token_s = token_s
        self.budget = IndexBudget()
        self.drafters: list[CopyDrafter] = []
        self.speculation = Speculation(
            {Source.COPY: self._copy},
            [Source.COPY],
            max_tokens=16,
            vocabulary=1 << 30,
            indexing=self.budget,
        )
        self.index_s: list[float] = []
        """Of each step."""
        self.draft_s: list[float] = []
        self._said = 1 << 20
        self._rows: list[str] = []
        self._has_begun = False

    def _copy(self, tokens: Sequence[int], _: str | None) -> Proposer:
        self.drafters.append(CopyDrafter(tokens, self.budget))
        return self.drafters[-1]

    def begin(self, name: str, num_tokens: int, mode: str = "auto") -> None:
        self.speculation.begin(name, range(num_tokens), Wish(mode))
        self._rows.append(name)
        self._has_begun = self._has_begun or mode != "off"

    def step(self, seconds: float, num_prompt_tokens: int = 0) -> None:
        steps = []
        for name in self._rows:
            self._said += 1
            steps.append(RowStep(name, Verdict([self._said]), room=16))
        self.speculation.step(steps, seconds=seconds, num_prompt_tokens=num_prompt_tokens)
        index_s = self.budget.num_granted * self._token_s
        took_s = index_s + LOOK_S * len(self._rows) + self._has_begun * TAKE_UP_S
        self.speculation.spent(took_s)
        self.index_s.append(index_s)
        self.draft_s.append(took_s)
        self._has_begun = False

    @property
    def is_indexing(self) -> bool:
        return any(each.num_wanted for each in self.drafters)

    def behind_s(self, name: str) -> float:
        """By how much a request is behind plain decoding, as it is kept."""
        return -self.speculation._rows[name].lead.seconds


@pytest.mark.parametrize(
    ("step_s", "token_s", "most_steps"),
    [
        (0.018, 1e-6, 150),
        (0.018, 3.1e-6, 320),
        (0.018, 8e-6, 850),
        (0.006, 1e-6, 350),
        (0.006, 3.1e-6, 1000),
    ],
)
def test_long_prompt_is_indexed_in_a_small_share_of_the_time(
    step_s: float, token_s: float, most_steps: int
) -> None:
    engine = Engine(token_s)
    engine.begin("long", PROMPT_TOKENS)
    while engine.is_indexing:
        engine.step(step_s)

    for num_steps in (60, len(engine.index_s)):  # the beginning, too
        assert sum(engine.index_s[:num_steps]) < 0.015 * step_s * num_steps
    assert max(engine.index_s) < 0.03 * step_s
    assert len(engine.index_s) < most_steps
    assert engine.drafters[0].num_indexed >= PROMPT_TOKENS


def test_much_is_indexed_behind_a_step_that_computed_a_prompt() -> None:
    engine = Engine(3.1e-6)
    engine.begin("long", PROMPT_TOKENS)
    engine.step(1.0, num_prompt_tokens=2048)

    assert 1990 <= engine.budget.num_granted <= 4096
    assert engine.index_s[0] < 0.015
    for _ in range(5):
        engine.step(100.0, num_prompt_tokens=2048)  # whatever held it up
        assert engine.budget.num_granted <= 4096


def test_indexing_goes_on_however_short_the_steps_are() -> None:
    engine = Engine(50e-6)
    engine.begin("long", PROMPT_TOKENS)
    granted = []
    for _ in range(80):
        engine.step(0.0001)
        granted.append(engine.budget.num_granted)

    assert sorted(granted) == [0] * 10 + [16] * 70


def test_one_hiccup_is_not_what_indexing_takes() -> None:
    budget = IndexBudget(least_tokens=16)
    drafter = CopyDrafter(range(16_384), budget)

    def granted(took_s: float | None = None) -> int:
        budget.begin_step(0.1)
        drafter.observe(Verdict([0]))
        budget.took(budget.num_granted * 4e-6 if took_s is None else took_s)
        return budget.num_granted

    usual = [granted() for _ in range(13)][-1]
    granted(took_s=1.0)
    after = [granted() for _ in range(6)]

    assert usual == pytest.approx(250, rel=0.05)
    assert min(each for each in after if each) > usual / 2
    assert max(after) > 0.8 * usual


def test_who_asks_for_no_drafts_is_credited_with_what_indexing_takes() -> None:
    """Not with what is done once, when a request is taken up."""
    engine = Engine(3.1e-6)
    engine.begin("off", 10, "off")
    for name, num_tokens in ("short", 50), ("long", PROMPT_TOKENS), ("none", 0):
        for _ in range(20):
            engine.step(0.018)
        if num_tokens:
            engine.begin(name, num_tokens)
    for _ in range(40):
        engine.step(0.018)

    assert sum(engine.index_s) > 0.005
    expected_s = sum(engine.draft_s[:-1]) - 2 * TAKE_UP_S  # the latest is the next step's
    assert engine.behind_s("off") == pytest.approx(expected_s, rel=0.02)


def test_what_is_indexed_behind_prompts_is_no_reason_to_draft_less() -> None:
    engine = Engine(3.1e-6)
    engine.begin("off", 10, "off")
    for _ in range(30):
        engine.step(0.018)
    before_s, num_steps = engine.behind_s("off"), len(engine.draft_s)
    for number in range(5):
        engine.begin(f"{number}", PROMPT_TOKENS)
        engine.step(1.0, num_prompt_tokens=2048)

    assert sum(engine.index_s[num_steps:]) > 0.02
    assert engine.behind_s("off") - before_s < 0.002


def test_requests_for_no_drafts_that_begin_do_not_hide_what_proposing_takes() -> None:
    """Drafts gain a quarter of a step, and finding them takes half of one; no lead stops them."""
    rows = [simulated.Row(chance=0.2)]
    machine = simulated.Machine(simulated.flat, rows, draft_s=0.01, max_slowdown=100)

    def run(num_steps: int) -> None:
        for number in range(num_steps):
            machine.speculation.begin(f"off-{number}", [0], Wish("off"))
            machine.step()
            machine.speculation.end(f"off-{number}")

    run(100)
    tokens, seconds = machine.tokens, machine.seconds
    run(300)

    assert (machine.tokens - tokens) / (machine.seconds - seconds) > 0.95 / simulated.flat(1, 0)
