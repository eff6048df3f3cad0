"""An engine that verifies drafts in no time, and says that it took what a curve says.

The right answer is all zeros. What a step takes depends on its requests and on what was drafted.
"""

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence

from headstart.stages.drafting import Draft, Source, Verdict
from headstart.stages.speculation import RowStep, Speculation
from headstart.stages.wish import Wish

Curve = Callable[[int, int], float]
"""Seconds of a step by its requests and the tokens drafted for them."""

WRONG = 1

_MEASURED = ((2, 0.0207), (4, 0.0272), (8, 0.035), (16, 0.0355), (32, 0.053), (64, 0.088))
"""Tokens and seconds of steps that verify, of one request on two cores (benchmarks/LOG.md)."""


def flat(rows: int, drafted: int) -> float:
    """A GPU with room: verifying is nearly free."""
    return 0.02 * (1 + 0.002 * (rows + drafted))


def laptop(rows: int, drafted: int) -> float:
    """Measured shape: 16 tokens cost 1.6 times one."""
    return 0.028 * (1 + 0.04 * (rows + drafted - 1))


def full(rows: int, drafted: int) -> float:
    """A machine at its limit: a token costs what it costs."""
    return 0.01 * (rows + drafted)


def prompt_token_s(curve: Curve) -> float:
    """What a prompt's token takes in a step: as much as a drafted one."""
    return (curve(1, 9) - curve(1, 1)) / 8


def two_cores(rows: int, drafted: int) -> float:
    """As measured: requests hardly slow a plain step, and verifying has a price of its own."""
    plain = 0.0214 * (1 + 0.04 * (rows - 1))
    if not drafted:
        return plain
    tokens = rows + drafted
    at = min(max(1, bisect_left(_MEASURED, (tokens, 0.0))), len(_MEASURED) - 1)
    (low, fast), (high, slow) = _MEASURED[at - 1 : at + 1]
    return max(plain, fast + (slow - fast) * (tokens - low) / (high - low))


class Row:
    """A request, and how often a drafted token of it is right.

    Args:
        chance: That a drafted token is right.
        offered: Share of the steps in which there is a draft.
        limit: Length of the answer in tokens.
    """

    def __init__(self, chance: float, offered: float = 1.0, limit: float = float("inf")) -> None:
        self.chance = chance
        self.offered = offered
        self.limit = limit
        self.tokens = 0
        self.seconds = 0.0
        self.drafted: list[int] = []


class _Guesser:
    def __init__(self, row: Row, chance: Callable[[], float], machine: "Machine") -> None:
        self._row = row
        self._chance = chance
        self._machine = machine
        self._random = machine.random

    def observe(self, verdict: Verdict) -> None:
        pass

    def draft(self, max_tokens: int) -> Draft | None:
        self._machine.proposing_s += self._machine.draft_s
        if self._random.random() >= self._row.offered:
            return None
        chance = self._chance()
        right = [self._random.random() < chance for _ in range(max_tokens)]
        return Draft([0 if each else WRONG for each in right])


class Machine:
    """The engine.

    Args:
        curve: What a step takes.
        noise: By what share a step is slower or faster than that, at most.
        draft_s: What one row's proposer takes for a draft, or to find that there is none.
        max_slowdown: As of `Speculation`.
    """

    def __init__(
        self,
        curve: Curve,
        rows: Sequence[Row],
        seed: int = 0,
        noise: float = 0.05,
        draft_s: float = 0.0,
        max_slowdown: float = 0.03,
    ) -> None:
        self.curve = curve
        self.random = random.Random(seed)
        self.noise = noise
        self.draft_s = draft_s
        self.proposing_s = 0.0
        """In the latest step."""
        self.table_chance: float | None = None
        """That a token drafted by a second proposer is right; there is none where it is None."""
        self.prompt_tokens: Callable[[int], int] = lambda _: 0
        """Tokens of prompts that a step computes besides, by its number."""
        self.seconds = 0.0
        self.plain_s = 0.0
        """What the same steps would have taken without drafts."""
        self.tokens = 0
        self.drafted: list[int] = []
        """For each step."""
        self.rows: dict[str, Row] = {}
        self._begun: list[Row] = []
        self.speculation = Speculation(
            {
                Source.COPY: self._copy,
                Source.DRAFTER: self._table,
            },
            [Source.COPY, Source.DRAFTER],
            max_tokens=16,
            vocabulary=2,
            max_slowdown=max_slowdown,
        )
        for row in rows:
            self.begin(row)

    def _copy(self, tokens: Sequence[int], _: str | None) -> _Guesser:
        row = self._begun[tokens[0]]
        return _Guesser(row, lambda: row.chance, self)

    def _table(self, tokens: Sequence[int], _: str | None) -> _Guesser | None:
        if (chance := self.table_chance) is None:
            return None
        return _Guesser(self._begun[tokens[0]], lambda: self.table_chance or chance, self)

    def begin(self, row: Row) -> None:
        """Take up a request."""
        name = str(len(self._begun))
        self._begun.append(row)
        self.rows[name] = row
        self.speculation.begin(name, [len(self._begun) - 1], Wish("auto"))

    def step(self) -> float:
        """Run one step and return what it took."""
        num_drafted = sum(len(row.drafted) for row in self.rows.values())
        noise = self.random.uniform(1 - self.noise, 1 + self.noise)
        num_prompt_tokens = self.prompt_tokens(len(self.drafted))
        prompts_s = num_prompt_tokens * prompt_token_s(self.curve)
        seconds = (self.curve(len(self.rows), num_drafted) + prompts_s) * noise
        self.plain_s += self.curve(len(self.rows), 0) + prompts_s
        steps = []
        for name, row in self.rows.items():
            right = next((at for at, token in enumerate(row.drafted) if token), len(row.drafted))
            row.tokens += right + 1
            row.seconds += seconds
            self.tokens += right + 1
            room = int(min(16, row.limit - row.tokens - 1))
            steps.append(RowStep(name, Verdict([0] * (right + 1), row.drafted), room))
        self.seconds += seconds
        self.drafted.append(num_drafted)
        self.proposing_s = 0.0
        drafts = self.speculation.step(steps, seconds=seconds, num_prompt_tokens=num_prompt_tokens)
        self.speculation.spent(self.proposing_s)
        self.seconds += self.proposing_s
        for (name, row), draft in zip(tuple(self.rows.items()), drafts, strict=True):
            row.drafted = draft
            if row.tokens >= row.limit:
                self.speculation.end(name)
                del self.rows[name]
        return seconds

    def run(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.step()

    def finish(self) -> float:
        """Run until every request has its answer, and return how long that took."""
        began = self.seconds
        while self.rows:
            self.step()
        return self.seconds - began

    def speed_over(self, num_steps: int) -> float:
        """Tokens a second relative to the same steps without drafts."""
        seconds, tokens, plain_s = self.seconds, self.tokens, self.plain_s
        self.run(num_steps)
        plain = len(self.rows) * num_steps / (self.plain_s - plain_s)
        return (self.tokens - tokens) / (self.seconds - seconds) / plain
