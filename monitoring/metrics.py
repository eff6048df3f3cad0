"""The few calls that feed the metrics. Whoever measures makes them; no clock is read here.

Series are made at start from the catalogue and the configured models: a call can pick one,
never make one, whatever a client sent. Belongs to one event loop; an observation costs about a
microsecond.
"""

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry

from headstart.monitoring.labels import (
    FinishReason,
    Outcome,
    Refusal,
    ReplicaState,
    Rescue,
    Route,
    StepKind,
    StreamState,
)
from headstart.monitoring.live_meter import LiveMeter
from headstart.monitoring.series import ModelSeries, Series
from headstart.monitoring.transport_meter import TransportMeter
from headstart.stages.mirror import StreamEnd
from headstart.stages.routing import Routed
from headstart.stages.speculation_counts import SpeculationCounts
from headstart.stages.speculation_labels import Decision, Undrafted
from headstart.stages.stage_clock import Mark, Stage, StageClock
from headstart.stages.warm_events import EditKind

__all__ = ["CONTENT_TYPE", "Metrics", "RequestMeter"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what `Metrics.expose` returns."""


class Metrics:
    """Every Headstart metric of one process.

    Args:
        models: Names of the configured models, the only ones the methods accept.
        version: Of Headstart, for `headstart_build_info`.
        registry: Where the series go; a fresh one if None.
        languages: Of the input, by model: those that its speculation is counted by.
    """

    def __init__(
        self,
        models: Iterable[str],
        version: str,
        registry: CollectorRegistry | None = None,
        languages: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._series = Series(
            registry or CollectorRegistry(), tuple(models), version, languages or {}
        )
        self.transport = TransportMeter(self._series.transport)
        """For readers over QUIC."""

    def live(self, model: str) -> LiveMeter:
        """Return what counts a configured model's live prompts.

        Raises:
            KeyError: It is not configured.
        """
        return LiveMeter(self._series.live[model])

    def live_edited(self, kind: EditKind) -> None:
        """Count an edit of a live prompt."""
        self._series.live_edits[kind].inc()

    def set_live_sessions(self, num_open: int) -> None:
        """State how many live prompts are being written."""
        self._series.live_sessions.set(num_open)

    def request(self, route: Route) -> "RequestMeter":
        """Count a request in, as it arrives."""
        return RequestMeter(self._series, route)

    def frame_projected(self, seconds: float) -> None:
        """Observe what turning one frame into an event cost."""
        self._series.frame_project.observe(seconds)

    def loop_lagged(self, seconds: float) -> None:
        """Observe how late the event loop ran a timer."""
        self._series.loop_lag.observe(seconds)

    def refused(self, reason: Refusal) -> None:
        """Count a request or connection that the gateway turned away."""
        self._series.refusals[reason].inc()

    def set_connections(self, num_open: int) -> None:
        """State how many connections are open."""
        self._series.connections.set(num_open)

    def set_tasks(self, num_tasks: int) -> None:
        """Say how many tasks the event loop has."""
        self._series.tasks.set(num_tasks)

    def set_streams(self, *, live: int, finished: int, log_bytes: int) -> None:
        """State what the stream table holds."""
        self._series.streams[StreamState.LIVE].set(live)
        self._series.streams[StreamState.FINISHED].set(finished)
        self._series.log_bytes.set(log_bytes)

    def set_replicas(self, model: str, *, up: int, known: int) -> None:
        """State how many replicas a model has. Raises KeyError if it is not configured."""
        replicas = self._series.models[model].replicas
        replicas[ReplicaState.UP].set(up)
        replicas[ReplicaState.KNOWN].set(known)

    def rescued(self, model: str, rescue: Rescue) -> None:
        """Count what became of a detached answer whose replica, link or gateway was lost."""
        self._series.models[model].rescues[rescue].inc()

    def routed(self, model: str, routed: Routed) -> None:
        """Count a choice between a model's pools. Raises KeyError if it is not configured."""
        self._series.models[model].routed[routed].inc()

    def set_load(self, model: str, *, waiting: int, running: int) -> None:
        """State the requests in a model's engines, summed over its replicas.

        Raises:
            KeyError: `model` is not configured.
        """
        series = self._series.models[model]
        series.waiting.set(waiting)
        series.running.set(running)

    def speculated(self, model: str, news: SpeculationCounts) -> None:
        """Add what an engine's speculation has done since it was last asked.

        Raises:
            KeyError: `model` is not configured.
        """
        series = self._series.decode[model]
        series.draft_s.inc(news.draft_s)
        for kind, num_steps, seconds in (
            (StepKind.PLAIN, news.plain_steps, news.plain_s),
            (StepKind.VERIFY, news.verify_steps, news.verify_s),
            (StepKind.MIXED, news.mixed_steps, news.mixed_s),
        ):
            series.steps[kind].inc(num_steps)
            series.seconds[kind].inc(seconds)
        for decision, num_steps in news.decisions.items():
            series.decisions[Decision(decision)].inc(num_steps)
        for language, counts in news.languages.items():
            series.of(language).count(counts)
        for reason, count in news.fallbacks.items():
            series.undrafted[Undrafted(reason)].inc(count)

    def set_clock_uncertainty(self, model: str, seconds: float) -> None:
        """State the largest `ClockOffset.uncertainty_s` among a model's replicas.

        Raises:
            KeyError: `model` is not configured.
        """
        self._series.models[model].clock_uncertainty.set(seconds)

    def expose(self) -> bytes:
        """Return the body of `/metrics`, of type `CONTENT_TYPE`.

        Takes a few milliseconds per configured model: call it in a thread, where it is safe.
        """
        return self._series.expose()


class RequestMeter:
    """What one request tells the metrics, from `Metrics.request` to `close`.

    The request is counted in one stage at a time and in none after `close`: with `close` in a
    `finally`, the in-flight gauges cannot drift.
    """

    __slots__ = ("_all", "_is_open", "_model", "_num_tokens", "_route", "_stage")

    def __init__(self, series: Series, route: Route) -> None:
        self._all = series
        self._route = route
        self._model: ModelSeries | None = None
        self._stage: Stage | None = None
        self._num_tokens = 0
        self._is_open = True
        self.moved_to(Stage.PARSE)

    def asked_for(self, model: str) -> None:
        """Name the configured model the request is for; before any frame.

        Raises:
            KeyError: `model` is not configured. Look up what a client typed in the settings
                first; a request for anything else is closed without this call.
        """
        self._model = self._all.models[model]

    def moved_to(self, stage: Stage | None) -> None:
        """Count the request in `stage`, usually `StageClock.current` after a mark."""
        if stage is self._stage or not self._is_open:
            return
        if self._stage is not None:
            self._all.inflight[self._stage].dec()
        if stage is not None:
            self._all.inflight[stage].inc()
        self._stage = stage

    def first_frame(self, ttft_s: float, num_tokens: int) -> None:
        """Observe a streamed answer's first frame with tokens, once written to its reader."""
        model = self._known_model()
        model.ttft.observe(ttft_s)
        model.output_tokens.inc(num_tokens)
        self._num_tokens += num_tokens

    def frame(self, gap_s: float, num_tokens: int) -> None:
        """Observe a later frame, written `gap_s` after the one with tokens before it.

        Frames that leave in one write are one frame. Those without tokens (role, usage, end
        marker) say nothing of pace and count for nothing.
        """
        if num_tokens == 0:
            return
        model = self._known_model()
        model.inter_frame.observe(gap_s)
        per_token_s = gap_s / num_tokens
        for _ in range(num_tokens):
            model.inter_token.observe(per_token_s)
        model.output_tokens.inc(num_tokens)
        self._num_tokens += num_tokens

    def close(self, outcome: Outcome, clock: StageClock, end: StreamEnd | None = None) -> None:
        """Count the request out. Only the first call counts.

        Args:
            outcome: How it ended.
            clock: Its marks; each stage with both of them is observed.
            end: What the replica said when it closed the log, if it came to that.
        """
        if not self._is_open:
            return
        self.moved_to(None)
        self._is_open = False
        model = self._model
        if model is None:
            self._all.refused[self._route, outcome].inc()
            return
        model.requests[self._route, outcome].inc()
        for stage, seconds in clock.durations().items():
            model.stages[stage].observe(seconds)
        if end is not None:
            self._count(model, end)
        if outcome is Outcome.COMPLETED:
            _observe_completed(model, clock, end)

    def _count(self, model: ModelSeries, end: StreamEnd) -> None:
        model.prompt_tokens.inc(end.prompt_tokens)
        model.cached_prompt_tokens.inc(end.cached_tokens)
        # Streamed tokens were counted as they were written; those of a body come all at once.
        model.output_tokens.inc(max(0, end.output_tokens - self._num_tokens))
        cut = (FinishReason.ABORT,) if end.is_aborted else ()
        for reason in end.finish_reasons + cut:
            model.finish_reasons[FinishReason.of(reason)].inc()

    def _known_model(self) -> ModelSeries:
        assert self._model is not None, "asked_for() comes before any frame"
        return self._model


def _observe_completed(model: ModelSeries, clock: StageClock, end: StreamEnd | None) -> None:
    duration_s = clock.between(Mark.ARRIVED, Mark.SENT)
    if duration_s is not None:
        model.duration.observe(duration_s)
    decode_s = clock.between(Mark.FIRST_TOKEN, Mark.LAST_TOKEN)
    if decode_s is None or end is None:
        return
    if len(end.finish_reasons) == 1 and end.output_tokens > 1:
        model.per_output_token.observe(decode_s / (end.output_tokens - 1))
