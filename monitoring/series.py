"""The series themselves: catalogue entries turned into Prometheus client objects.

All are made at start, children included, so an observation looks nothing up by label, and a
series is there (at zero) before its first event: `rate` cannot see the event that creates one.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from headstart.monitoring import catalogue
from headstart.monitoring import catalogue_gateway as gateway
from headstart.monitoring import catalogue_live as live
from headstart.monitoring import catalogue_requests as requests
from headstart.monitoring import catalogue_speculation as speculation
from headstart.monitoring import catalogue_transport as transport
from headstart.monitoring.labels import (
    AckOutcome,
    CarrierKind,
    Fallback,
    FinishReason,
    Handshake,
    Outcome,
    PacketOutcome,
    Refusal,
    ReplicaState,
    Rescue,
    ResumeOutcome,
    Route,
    StepKind,
    StreamState,
    Way,
)
from headstart.monitoring.metric import Alias, Metric
from headstart.stages.datagram_events import Cause
from headstart.stages.drafting import Source
from headstart.stages.mind_events import ThoughtOutcome
from headstart.stages.render_gaps import StallCause
from headstart.stages.routing import Routed
from headstart.stages.speculation_counts import LanguageCounts
from headstart.stages.speculation_labels import (
    NO_LANGUAGE,
    OTHER_LANGUAGE,
    Decision,
    Position,
    Undrafted,
)
from headstart.stages.stage_clock import Stage
from headstart.stages.warm_events import Budget, EditKind, LiveStage, Why

__all__ = ["DecodeSeries", "LiveSeries", "ModelSeries", "Series", "TransportSeries"]

_NO_MODEL = ""
"""To Prometheus the same as no label; only `headstart_requests_total` has it."""


class Series:
    """Every metric of the catalogue on one registry.

    Args:
        registry: Has none of these metrics yet.
        models: The only values that `model` labels take.
        version: For `headstart_build_info`.
        languages: By model, those that its speculation is counted by.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        models: Sequence[str],
        version: str,
        languages: Mapping[str, Sequence[str]],
    ) -> None:
        # The `_created` series would nearly double the number of families; no query reads them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # upstream has no annotations
        self._registry = registry
        families = _Families(registry, {"model": models, "version": (version,)})
        for alias in requests.ALIASES:
            registry.register(_AliasCollector(alias, families.histograms[alias.source]))

        gauges, histograms = families.gauges, families.histograms
        gauges[gateway.BUILD_INFO].labels(version).set(1)
        self.inflight = {s: gauges[requests.STAGE_INFLIGHT].labels(s) for s in Stage}
        self.streams = {s: gauges[gateway.STREAMS].labels(s) for s in StreamState}
        self.log_bytes = gauges[gateway.LOG_BYTES]
        self.connections = gauges[gateway.CONNECTIONS]
        self.refusals = {r: families.counters[gateway.REFUSALS].labels(r) for r in Refusal}
        self.frame_project = histograms[gateway.FRAME_PROJECT]
        self.loop_lag = histograms[gateway.LOOP_LAG]
        self.tasks = families.gauges[gateway.TASKS]
        self.refused = families.requests(_NO_MODEL)
        self.transport = TransportSeries(families)
        self.live_sessions = gauges[live.LIVE_SESSIONS]
        self.live_edits = {k: families.counters[live.LIVE_EDITS].labels(k) for k in EditKind}
        self.live = {model: LiveSeries(families, model) for model in models}
        self.models = {model: ModelSeries(families, model) for model in models}
        self.decode = {
            model: DecodeSeries(families, model, languages.get(model, ())) for model in models
        }

    def expose(self) -> bytes:
        """Return every series in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)


class TransportSeries:
    """The series of readers over QUIC."""

    def __init__(self, families: "_Families") -> None:
        histograms, counters, gauges = families.histograms, families.counters, families.gauges
        self.connections = {k: gauges[transport.QUIC_CONNECTIONS].labels(k) for k in CarrierKind}
        self.datagrams = {cause: counters[transport.DATAGRAMS].labels(cause) for cause in Cause}
        self.bytes = counters[transport.DATAGRAM_BYTES]
        self.fresh_bytes = counters[transport.DATAGRAM_FRESH_BYTES]
        self.replaced = counters[transport.DATAGRAMS_REPLACED]
        self.oversize = counters[transport.DATAGRAMS_OVERSIZE]
        self.packets = {how: counters[transport.QUIC_PACKETS].labels(how) for how in PacketOutcome}
        self.handshakes = {
            how: counters[transport.QUIC_HANDSHAKES].labels(how) for how in Handshake
        }
        self.acks = {outcome: counters[transport.ACKS].labels(outcome) for outcome in AckOutcome}
        self.rtt = histograms[transport.READER_RTT]
        self.render_gap = histograms[transport.RENDER_GAP]
        self.stalls = {cause: counters[transport.STALLS].labels(cause) for cause in StallCause}
        self.catch_ups = counters[transport.CATCH_UPS]
        self.fallbacks = {why: counters[transport.FALLBACKS].labels(why) for why in Fallback}
        self.resumes = {
            (way, how): counters[transport.RESUMES].labels(way, how)
            for way, how in product(Way, ResumeOutcome)
        }


class DecodeSeries:
    """What speculation does for one configured model."""

    def __init__(self, families: "_Families", model: str, languages: Sequence[str]) -> None:
        counters = families.counters
        self.draft_s = counters[speculation.DRAFT_SECONDS].labels(model)
        self.seconds = {
            kind: counters[speculation.DECODE_SECONDS].labels(model, kind) for kind in StepKind
        }
        self.steps = {
            kind: counters[speculation.DECODE_STEPS].labels(model, kind) for kind in StepKind
        }
        self.decisions = {
            decision: counters[speculation.DRAFT_DECISIONS].labels(model, decision)
            for decision in Decision
        }
        self.undrafted = {
            reason: counters[speculation.UNDRAFTED].labels(model, reason) for reason in Undrafted
        }
        self._languages = {
            language: LanguageSeries(families, model, language)
            for language in (*languages, OTHER_LANGUAGE, NO_LANGUAGE)
        }

    def of(self, language: str) -> "LanguageSeries":
        """Return the series of a language; what an engine of other settings says is an other."""
        return self._languages.get(language) or self._languages[OTHER_LANGUAGE]


class LanguageSeries:
    """The same, for one language of the input."""

    def __init__(self, families: "_Families", model: str, language: str) -> None:
        counters = families.counters
        self.rows = counters[speculation.DECODE_ROWS].labels(model, language)
        self.tokens = counters[speculation.DECODE_TOKENS].labels(model, language)
        self.drafts = {
            source: counters[speculation.DRAFTS].labels(model, source, language)
            for source in Source
        }
        self.drafted, self.accepted = (
            {
                place: counters[metric].labels(model, *place, language)
                for place in product(Source, Position)
            }
            for metric in (speculation.DRAFTED_TOKENS, speculation.ACCEPTED_TOKENS)
        )

    def count(self, news: LanguageCounts) -> None:
        """Add what has come."""
        self.rows.inc(news.rows)
        self.tokens.inc(news.tokens)
        for name, counts in news.sources.items():
            source = Source(name)
            self.drafts[source].inc(counts.drafts)
            for index, (drafted, accepted) in enumerate(
                zip(counts.drafted, counts.accepted, strict=True)
            ):
                place = source, Position.of(index)
                self.drafted[place].inc(drafted)
                self.accepted[place].inc(accepted)


class LiveSeries:
    """The series of one model's live prompts."""

    def __init__(self, families: "_Families", model: str) -> None:
        histograms, counters = families.histograms, families.counters
        stages = histograms[live.LIVE_STAGE_DURATION]
        self.stages = {stage: stages.labels(stage, model) for stage in LiveStage}
        self.warm_tokens = counters[live.LIVE_WARM_TOKENS].labels(model)
        self.wasted_tokens = counters[live.LIVE_WASTED_TOKENS].labels(model)
        self.committed_tokens = counters[live.LIVE_COMMITTED_TOKENS].labels(model)
        self.cached_share = histograms[live.LIVE_CACHED_SHARE].labels(model)
        self.hidden = counters[live.LIVE_HIDDEN].labels(model)
        self.aborted = {why: counters[live.LIVE_ABORTED].labels(why) for why in Why}
        self.thoughts = {
            one: counters[live.LIVE_THOUGHTS].labels(one, model) for one in ThoughtOutcome
        }
        self.thought_tokens = {
            one: counters[live.LIVE_THOUGHT_TOKENS].labels(one, model) for one in ThoughtOutcome
        }
        self.starved = {one: counters[live.LIVE_BUDGET_WAITS].labels(one, model) for one in Budget}


class ModelSeries:
    """The series of one configured model."""

    __slots__ = (
        "cached_prompt_tokens",
        "clock_uncertainty",
        "duration",
        "finish_reasons",
        "inter_frame",
        "inter_token",
        "output_tokens",
        "per_output_token",
        "prompt_tokens",
        "replicas",
        "requests",
        "rescues",
        "routed",
        "running",
        "stages",
        "ttft",
        "waiting",
    )

    def __init__(self, families: "_Families", model: str) -> None:
        histograms, counters, gauges = families.histograms, families.counters, families.gauges
        self.stages = {s: histograms[requests.STAGE_DURATION].labels(s, model) for s in Stage}
        self.ttft = histograms[requests.TTFT].labels(model)
        self.inter_frame = histograms[requests.INTER_FRAME].labels(model)
        self.inter_token = histograms[requests.INTER_TOKEN].labels(model)
        self.per_output_token = histograms[requests.PER_OUTPUT_TOKEN].labels(model)
        self.duration = histograms[requests.REQUEST_DURATION].labels(model)
        self.requests = families.requests(model)
        self.prompt_tokens = counters[requests.PROMPT_TOKENS].labels(model)
        self.cached_prompt_tokens = counters[requests.CACHED_PROMPT_TOKENS].labels(model)
        self.output_tokens = counters[requests.OUTPUT_TOKENS].labels(model)
        self.finish_reasons = {
            reason: counters[requests.FINISH_REASONS].labels(model, reason)
            for reason in FinishReason
        }
        self.replicas = {s: gauges[gateway.REPLICAS].labels(model, s) for s in ReplicaState}
        self.rescues = {s: counters[gateway.RESCUES].labels(model, s) for s in Rescue}
        self.routed = {why: counters[gateway.ROUTED].labels(model, why) for why in Routed}
        self.waiting = gauges[gateway.REPLICA_WAITING].labels(model)
        self.running = gauges[gateway.REPLICA_RUNNING].labels(model)
        self.clock_uncertainty = gauges[gateway.CLOCK_UNCERTAINTY].labels(model)
        self.clock_uncertainty.set(float("inf"))


class _Families:
    """Client objects by catalogue entry, with a child for each allowed set of label values.

    Where what is allowed differs by model, whoever knows makes the children.
    """

    def __init__(self, registry: CollectorRegistry, given: Mapping[str, Sequence[str]]) -> None:
        self.histograms: dict[Metric, Histogram] = {}
        self.counters: dict[Metric, Counter] = {}
        self.gauges: dict[Metric, Gauge] = {}
        for metric in catalogue.METRICS:
            names = [label.name for label in metric.labels]
            family: Histogram | Counter | Gauge
            match metric.kind:
                case "histogram":
                    family = self.histograms[metric] = Histogram(
                        metric.name, metric.help, names, registry=registry, buckets=metric.buckets
                    )
                case "counter":
                    family = self.counters[metric] = Counter(
                        metric.name, metric.help, names, registry=registry
                    )
                case "gauge":
                    family = self.gauges[metric] = Gauge(
                        metric.name, metric.help, names, registry=registry
                    )
            if metric.labels and all(
                label.values or label.name in given for label in metric.labels
            ):
                for values in product(
                    *(label.values or given[label.name] for label in metric.labels)
                ):
                    family.labels(*values)

    def requests(self, model: str) -> dict[tuple[Route, Outcome], Counter]:
        """Return the request counters of one model, or of `_NO_MODEL`."""
        family = self.counters[requests.REQUESTS]
        return {pair: family.labels(model, *pair) for pair in product(Route, Outcome)}


class _AliasCollector(Collector):
    """Exports a histogram a second time under another name; costs nothing until scraped."""

    def __init__(self, alias: Alias, source: Histogram) -> None:
        self._alias = alias
        self._source = source

    def describe(self) -> Iterator[Family]:
        yield self._family()

    def collect(self) -> Iterator[Family]:
        family = self._family()
        for sample in chain.from_iterable(found.samples for found in self._source.collect()):
            labels = dict(sample.labels)
            labels["gen_ai_request_model"] = labels.pop("model")
            suffix = sample.name.removeprefix(self._alias.source.name)
            family.samples.append(sample._replace(name=self._alias.name + suffix, labels=labels))
        yield family

    def _family(self) -> Family:
        source = self._alias.source
        return Family(self._alias.name, f"Same as {source.name}. {source.help}", "histogram")
