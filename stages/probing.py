"""When to look for drafts, and to try one, where none has paid lately: things change."""

from headstart.stages.step_cost import StepCost

__all__ = ["PROBE_TOKENS", "Probing"]

PROBE_TOKENS = 1
_COST = 1.05
"""Of a step that probes one row, what one may take that probes more."""
_FIRST, _LAST = 8, 64
"""Steps without a draft after which one is tried; doubled until drafting pays again."""
_LOOK_SHARE = 0.01
"""Of the time of steps without drafts that may be spent on looking whether there is one."""
_PROBE_SHARE = 0.005
"""Of the same time that may be lost by trying some. Requests that begin hasten the next probe, and
on a busy server there is always one that does."""


class Probing:
    """Keeps what looking and trying take a small share of the time.

    Args:
        cost: Learns from the same steps.
    """

    def __init__(self, cost: StepCost) -> None:
        self._cost = cost
        self._in = self._every = _FIRST
        self._is_probing = False
        """Whether the step that comes in has a probe."""
        self._look_debt_s = 0.0
        """Spent on looking in vain, and not yet a share of the time since."""
        self._probe_debt_s = 0.0
        """The same of what probes have lost."""

    @property
    def is_resting(self) -> bool:
        """Whether looking has had its share of the time."""
        return self._look_debt_s > 0

    def step(self, num_rows: int, num_drafted: int, num_tokens: int, seconds: float) -> None:
        """Note a step, which `StepCost` has been told of.

        Args:
            num_rows: Requests in it.
            num_drafted: Tokens that were drafted for them.
            num_tokens: Tokens that they gained.
            seconds: How long it took.
        """
        self._in -= 1
        self._look_debt_s = max(0.0, self._look_debt_s - _LOOK_SHARE * seconds)
        debt_s = self._probe_debt_s - _PROBE_SHARE * seconds
        if self._is_probing:  # a token that was right makes up for some of what it took
            taken_s = self._cost.seconds(num_rows, num_drafted)
            debt_s += taken_s - self._cost.seconds(num_rows) * num_tokens / num_rows
            self._is_probing = False
        self._probe_debt_s = max(0.0, debt_s)

    def began(self) -> None:
        """Note that a request has begun: it may be one that drafts are right for."""
        self._in = min(self._in, _FIRST)

    def paid(self) -> None:
        """Note that drafting pays."""
        self._in = self._every = _FIRST
        self._probe_debt_s = 0.0

    def looked(self, seconds: float) -> None:
        """Note how long it took to find that nothing pays."""
        self._look_debt_s += seconds

    def is_due(self, slack_s: list[float]) -> bool:
        """Whether to draft now although it is not expected to pay.

        Args:
            slack_s: For each request, by how many seconds it may fall behind.
        """
        if self._in > 0 or self._probe_debt_s > 0:
            return False
        num_rows = len(slack_s)
        more_s = self._cost.seconds(num_rows, PROBE_TOKENS) - self._cost.seconds(num_rows)
        return more_s <= min(slack_s)

    def num_rows(self, num_offered: int, num_rows: int) -> int:
        """Return for how many requests to try one now: for more than one if that costs no more.

        Args:
            num_offered: Requests that a draft is on offer for; at least one.
            num_rows: Requests in the batch.
        """
        self._is_probing = True
        self._every = self._in = min(2 * self._every, _LAST)
        step_s = self._cost.by_drafted(num_rows)
        most_s = _COST * step_s(PROBE_TOKENS)
        count = 1
        while count < num_offered and step_s((count + 1) * PROBE_TOKENS) <= most_s:
            count += 1
        return count
