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


class Probing:
    """Keeps what looking and trying take a small share of the time.

    Args:
        cost: Learns from the same steps.
    """

    def __init__(self, cost: StepCost) -> None:
        self._cost = cost
        self._in = self._every = _FIRST
        self._look_debt_s = 0.0
        """Spent on looking in vain, and not yet a share of the time since."""

    @property
    def is_resting(self) -> bool:
        """Whether looking has had its share of the time."""
        return self._look_debt_s > 0

    def step(self, seconds: float) -> None:
        """Note how long a step took."""
        self._look_debt_s = max(0.0, self._look_debt_s - _LOOK_SHARE * seconds)

    def began(self) -> None:
        """Note that a request has begun: it may be one that drafts are right for."""
        self._in = min(self._in, _FIRST)

    def paid(self) -> None:
        """Note that drafting pays."""
        self._in = self._every = _FIRST

    def looked(self, seconds: float) -> None:
        """Note how long it took to find that nothing pays."""
        self._look_debt_s += seconds

    def is_due(self) -> bool:
        """Whether to draft now although it is not expected to pay. To be asked once a step."""
        self._in -= 1
        if self._in > 0:
            return False
        self._every = self._in = min(2 * self._every, _LAST)
        return True

    def is_within(self, slack_s: list[float]) -> bool:
        """Whether no request falls further behind by a probe than it may, in seconds."""
        num_rows = len(slack_s)
        more_s = self._cost.seconds(num_rows, PROBE_TOKENS) - self._cost.seconds(num_rows)
        return more_s <= min(slack_s)

    def num_rows(self, num_offered: int, num_rows: int) -> int:
        """Return for how many requests to try one: for more than one if that adds hardly anything.

        Args:
            num_offered: Requests that a draft is on offer for, of which there is one.
            num_rows: Requests in the batch.
        """
        step_s = self._cost.by_drafted(num_rows)
        most_s = _COST * step_s(PROBE_TOKENS)
        count = 1
        while count < num_offered and step_s((count + 1) * PROBE_TOKENS) <= most_s:
            count += 1
        return count
