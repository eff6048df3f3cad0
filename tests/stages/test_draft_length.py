"""The controller on simulated machines: drafts where it pays, only there, and settles."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.stages.draft_length import Acceptance, DraftLengths, StepCost
from headstart.stages.drafting import Draft, Source, Verdict
from headstart.stages.speculation import RowStep, Speculation, Wish

Curve = Callable[[int], float]

WRONG = 1


def flat(tokens: int) -> float:
    """A GPU with room: verifying is nearly free."""
    return 0.02 * (1 + 0.002 * tokens)


def laptop(tokens: int) -> float:
    """Measured shape: 16 tokens cost 1.6 times one."""
    return 0.028 * (1 + 0.04 * (tokens - 1))


def full(tokens: int) -> float:
    """A machine at its limit: a token costs what it costs."""
    return 0.01 * tokens


class Guesser:
    """Offers drafts of which each token is right with a chance that the test sets."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine

    def observe(self, verdict: Verdict) -> None:
        pass

    def draft(self, max_tokens: int) -> Draft | None:
        chance = self._machine.chance
        return Draft(
            [0 if self._machine.random.random() < chance else WRONG for _ in range(max_tokens)]
        )


class Machine:
    """An engine whose right answer is all zeros, and whose step takes what a curve says."""

    def __init__(self, curve: Curve, chance: float, rows: int, seed: int = 0) -> None:
        self.curve = curve
        self.chance = chance
        self.random = random.Random(seed)
        self.seconds = 0.0
        self.tokens = 0
        self.drafted: list[int] = []
        self._names = [str(row) for row in range(rows)]
        self._drafts: list[list[int]] = [[] for _ in self._names]
        self.speculation = Speculation(
            {Source.COPY: lambda _tokens, _language: Guesser(self)},
            [Source.COPY],
            max_tokens=16,
            vocabulary=2,
        )
        for name in self._names:
            self.speculation.begin(name, [0], Wish("auto"))

    def run(self, num_steps: int) -> None:
        for _ in range(num_steps):
            computed = len(self._names) + sum(map(len, self._drafts))
            noise = self.random.uniform(0.95, 1.05)
            seconds = self.curve(computed) * noise
            steps = []
            for name, draft in zip(self._names, self._drafts, strict=True):
                right = next((at for at, token in enumerate(draft) if token), len(draft))
                steps.append(RowStep(name, Verdict([0] * (right + 1), draft), room=16))
                self.tokens += right + 1
            self.seconds += seconds
            self.drafted.append(computed - len(self._names))
            self._drafts = self.speculation.step(steps, seconds=seconds)

    def speed_over(self, num_steps: int) -> float:
        """Tokens a second relative to the same steps without drafts."""
        seconds, tokens = self.seconds, self.tokens
        self.run(num_steps)
        plain = len(self._names) / self.curve(len(self._names))
        return (self.tokens - tokens) / (self.seconds - seconds) / plain


def best_possible(curve: Curve, chance: float, rows: int) -> float:
    """What the best fixed length would gain."""
    plain = rows / curve(rows)
    return max(
        rows
        * sum(chance**position for position in range(length + 1))
        / curve(rows * (length + 1))
        / plain
        for length in range(17)
    )


@settings(max_examples=30)
@given(
    st.sampled_from([flat, laptop, full]),
    st.floats(0.02, 0.98),
    st.sampled_from([1, 4, 8]),
    st.integers(0, 1000),
)
def test_close_to_the_best_length_and_never_below_plain(
    curve: Curve, chance: float, rows: int, seed: int
) -> None:
    machine = Machine(curve, chance, rows, seed)
    machine.run(300)

    found = machine.speed_over(400)

    assert found > 0.96
    assert found > 0.85 * best_possible(curve, chance, rows)


@pytest.mark.parametrize("curve", [laptop, full])
def test_nothing_is_drafted_where_it_does_not_pay(curve: Curve) -> None:
    machine = Machine(curve, 0.01, rows=4)
    machine.run(1500)

    late = machine.drafted[500:]

    assert sum(late) / len(late) < 0.3  # what is left are probes
    assert not machine.speculation._lengths.is_on


@settings(max_examples=30)
@given(st.sampled_from([flat, laptop]), st.floats(0.05, 0.95), st.integers(0, 100))
def test_it_settles(curve: Curve, chance: float, seed: int) -> None:
    """With nothing changing it does not swing between drafting and not drafting."""
    machine = Machine(curve, chance, rows=2, seed=seed)
    machine.run(500)
    switches, was_on = 0, machine.speculation._lengths.is_on
    for _ in range(400):
        machine.run(1)
        switches += machine.speculation._lengths.is_on is not was_on
        was_on = machine.speculation._lengths.is_on

    gain = best_possible(curve, chance, 2)
    if gain > 1.15 or gain < 1.01:  # near a draw either is as good
        assert switches <= 16


def test_it_recovers_when_drafts_become_right() -> None:
    machine = Machine(laptop, 0.01, rows=1)
    machine.run(600)
    machine.chance = 0.95

    machine.run(300)

    assert machine.speed_over(200) > 2.5


def test_it_recovers_when_the_machine_has_room_again() -> None:
    machine = Machine(full, 0.8, rows=2)
    machine.run(600)
    assert not machine.speculation._lengths.is_on
    machine.curve = flat

    machine.run(700)

    assert machine.speed_over(200) > 2.5


def test_one_hiccup_changes_little() -> None:
    cost = StepCost()
    for _ in range(50):
        cost.observe(1, 0.02)
        cost.observe(9, 0.03)

    cost.observe(9, 30.0)

    assert cost.seconds(9) < 0.034


def test_cost_never_falls_with_size() -> None:
    cost = StepCost()
    for tokens, seconds in ((1, 0.03), (4, 0.02), (16, 0.05)):
        for _ in range(20):
            cost.observe(tokens, seconds)

    costs = [cost.seconds(tokens) for tokens in range(1, 40)]

    assert costs == sorted(costs)


@given(st.lists(st.tuples(st.integers(1, 16), st.integers(0, 16)), max_size=50))
def test_survival_never_rises(verdicts: list[tuple[int, int]]) -> None:
    acceptance = Acceptance(Acceptance())
    for drafted, accepted in verdicts:
        acceptance.observe(drafted, min(drafted, accepted))

    survival = acceptance.survival(20)

    assert survival == sorted(survival, reverse=True)
    assert all(0 <= chance <= 1 for chance in survival)


def test_sure_rows_get_the_room() -> None:
    cost = StepCost()
    for tokens in (2, 4, 8, 16, 32):
        cost.observe(tokens, laptop(tokens))
    lengths = DraftLengths(cost)

    sure, unsure = lengths.choose(2, [[0.9, 0.85, 0.8], [0.02, 0.001]])

    assert sure == 3
    assert unsure == 0
