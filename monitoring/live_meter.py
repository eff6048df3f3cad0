"""The calls that feed the metrics of live prompts."""

from headstart.monitoring.series import LiveSeries
from headstart.stages.mind_events import ThoughtOutcome
from headstart.stages.warm_events import Budget, LiveStage, Why
from headstart.stages.warm_ledger import Account

__all__ = ["LiveMeter"]


class LiveMeter:
    """What the live prompts of one model tell the metrics; `Metrics.live`."""

    def __init__(self, series: LiveSeries) -> None:
        self._series = series

    def passed(self, stage: LiveStage, seconds: float) -> None:
        """Observe one piece of work."""
        self._series.stages[stage].observe(seconds)

    def warmed(self, num_tokens: int, seconds: float) -> None:
        """A slice has been computed, `num_tokens` of it anew."""
        self._series.warm_tokens.inc(num_tokens)
        self.passed(LiveStage.WARM, seconds)

    def aborted(self, why: Why) -> None:
        """A slice has been stopped."""
        self._series.aborted[why].inc()

    def thought(self, outcome: ThoughtOutcome, num_tokens: int) -> None:
        """It is known what became of a thought."""
        self._series.thoughts[outcome].inc()
        self._series.thought_tokens[outcome].inc(num_tokens)

    def starved(self, budget: Budget) -> None:
        """Work has to wait for its budget."""
        self._series.starved[budget].inc()

    def ended(self, account: Account) -> None:
        """A turn is over, sent off or not."""
        self._series.wasted_tokens.inc(account.wasted_tokens)
        self._series.hidden.inc(account.hidden_s)

    def committed(self, num_tokens: int, num_cached: int) -> None:
        """A prompt was sent off, and so much of it was in the cache."""
        self._series.committed_tokens.inc(num_tokens)
        if num_tokens:
            self._series.cached_share.observe(num_cached / num_tokens)
