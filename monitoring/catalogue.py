"""Every metric Headstart exports, as data: name, meaning, labels, buckets and one query.

`headstart.monitoring.metrics` builds the series from these entries and
`headstart.monitoring.dashboards` the panels, so a name is spelt once. Nothing here imports a
metrics library.
"""

from dataclasses import dataclass
from typing import Literal

from headstart.monitoring.labels import (
    AckOutcome,
    CarrierKind,
    Fallback,
    FinishReason,
    Label,
    Outcome,
    Refusal,
    ReplicaState,
    Rescue,
    ResumeOutcome,
    Route,
    StepKind,
    StreamState,
)
from headstart.stages.datagram_events import Cause
from headstart.stages.drafting import Source
from headstart.stages.mind_events import Outcome as Thought
from headstart.stages.render_gaps import StallCause
from headstart.stages.speculation_counts import Position, Undrafted
from headstart.stages.stage_clock import Stage
from headstart.stages.warm_events import EditKind, LiveStage, Why

__all__ = ["ALIASES", "METRICS", "Alias", "Metric"]

_STAGE = Label("stage", tuple(Stage))
_MODEL = Label("model")
_ROUTE = Label("route", tuple(Route))
_OUTCOME = Label("outcome", tuple(Outcome))
_REASON = Label("reason", tuple(FinishReason))
_REFUSAL = Label("reason", tuple(Refusal))
_STREAM_STATE = Label("state", tuple(StreamState))
_REPLICA_STATE = Label("state", tuple(ReplicaState))
_RESCUE = Label("outcome", tuple(Rescue))
_VERSION = Label("version")
_CARRIER = Label("carrier", tuple(CarrierKind))
_SEND_CAUSE = Label("cause", tuple(Cause))
_ACK = Label("outcome", tuple(AckOutcome))
_STALL = Label("cause", tuple(StallCause))
_FALLBACK = Label("reason", tuple(Fallback))
_RESUME = Label("outcome", tuple(ResumeOutcome))
_SOURCE = Label("source", tuple(Source))
_POSITION = Label("position", tuple(Position))
_UNDRAFTED = Label("reason", tuple(Undrafted))
_STEP_KIND = Label("kind", tuple(StepKind))
_LIVE_STAGE = Label("stage", tuple(LiveStage))
_THOUGHT = Label("outcome", tuple(Thought))
_EDIT = Label("kind", tuple(EditKind))
_WHY = Label("reason", tuple(Why))


@dataclass(frozen=True, slots=True)
class Metric:
    """One exported metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    """For the exposition and the dashboards: what is measured, from where to where, caveats."""
    query: str
    """A PromQL expression worth asking of it."""
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper edges in the metric's unit; histograms only."""


@dataclass(frozen=True, slots=True)
class Alias:
    """The observations of `source`, exported once more under a name others look for.

    `model` becomes `gen_ai_request_model`. OpenTelemetry's `gen_ai.operation.name` is left out:
    the source series are not split by route.
    """

    name: str
    source: Metric


# Dynamo's, extended at both ends: a stage here may take microseconds, a queue seconds.
_STAGE_S = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# OpenTelemetry GenAI semantic conventions (status: development), one tuple a metric.
_TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_PER_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
_REQUEST_S = tuple(0.01 * 2**power for power in range(14))
# From 1 ms on: accepted drafts share one step's gap.
_GAP_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5)
_RTT_S = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2)
_SHARE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)
_LOOP_LAG_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_PROJECT_S = (5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 1e-2)

STAGE_DURATION = Metric(
    "headstart_stage_duration_seconds",
    "histogram",
    "Time a request spent in one stage, for every stage it passed, whatever became of it. "
    "Stages are disjoint, so their means may be stacked; quantiles of stages never add up. "
    "network and render are known for readers that acknowledge: over QUIC, not over HTTP.",
    "sum by (stage) (rate(headstart_stage_duration_seconds_sum[5m]))"
    " / sum by (stage) (rate(headstart_stage_duration_seconds_count[5m]))",
    (_STAGE, _MODEL),
    _STAGE_S,
)
STAGE_INFLIGHT = Metric(
    "headstart_stage_inflight",
    "gauge",
    "Requests that are in a stage now. The gateway learns of a replica's stages by message: these "
    "lag by a hop, and a prompt counts as queued until its first token is there.",
    "sum by (stage) (headstart_stage_inflight)",
    (_STAGE,),
)
TTFT = Metric(
    "headstart_ttft_seconds",
    "histogram",
    "From a request's arrival at the gateway to the first frame with tokens written to its "
    "reader. Streamed answers only.",
    "histogram_quantile(0.95, sum by (le) (rate(headstart_ttft_seconds_bucket[5m])))",
    (_MODEL,),
    _TTFT_S,
)
INTER_FRAME = Metric(
    "headstart_inter_frame_seconds",
    "histogram",
    "Gap between two frames with tokens written to a reader, whatever number of tokens the "
    "later one holds: what a reader sees as a pause. Not a time per token.",
    "histogram_quantile(0.99, sum by (le) (rate(headstart_inter_frame_seconds_bucket[5m])))",
    (_MODEL,),
    _GAP_S,
)
INTER_TOKEN = Metric(
    "headstart_inter_token_seconds",
    "histogram",
    "The same gap divided by the tokens of the later frame, counted once for each of them, so "
    "that sum / count is the true time per streamed token under speculative decoding too.",
    "sum(rate(headstart_inter_token_seconds_sum[5m]))"
    " / sum(rate(headstart_inter_token_seconds_count[5m]))",
    (_MODEL,),
    _GAP_S,
)
PER_OUTPUT_TOKEN = Metric(
    "headstart_time_per_output_token_seconds",
    "histogram",
    "A completed request's decode stage divided by its output tokens after the first: one "
    "observation a request, answers with a single choice only.",
    "histogram_quantile(0.5,"
    " sum by (le) (rate(headstart_time_per_output_token_seconds_bucket[5m])))",
    (_MODEL,),
    _PER_TOKEN_S,
)
REQUEST_DURATION = Metric(
    "headstart_request_duration_seconds",
    "histogram",
    "From a request's arrival at the gateway to the last byte written, on the gateway's clock. "
    "Completed requests only: quick refusals would flatter it.",
    "histogram_quantile(0.95, sum by (le) (rate(headstart_request_duration_seconds_bucket[5m])))",
    (_MODEL,),
    _REQUEST_S,
)
REQUESTS = Metric(
    "headstart_requests_total",
    "counter",
    "Requests that have ended, by how. model is empty where a request ended before it was known "
    "to ask for a configured model.",
    "sum by (outcome) (rate(headstart_requests_total[5m]))",
    (_MODEL, _ROUTE, _OUTCOME),
)
PROMPT_TOKENS = Metric(
    "headstart_prompt_tokens_total",
    "counter",
    "Prompt tokens of requests the engine has taken, cached ones included.",
    "sum(rate(headstart_prompt_tokens_total[5m]))",
    (_MODEL,),
)
CACHED_PROMPT_TOKENS = Metric(
    "headstart_cached_prompt_tokens_total",
    "counter",
    "Prompt tokens that the prefix cache held, so that they needed no prefill.",
    "sum(rate(headstart_cached_prompt_tokens_total[5m]))"
    " / (sum(rate(headstart_prompt_tokens_total[5m])) > 0)",
    (_MODEL,),
)
OUTPUT_TOKENS = Metric(
    "headstart_output_tokens_total",
    "counter",
    "Tokens of answers: as they are written where the answer is streamed, at its end elsewhere.",
    "sum(rate(headstart_output_tokens_total[5m]))",
    (_MODEL,),
)
FINISH_REASONS = Metric(
    "headstart_finish_reasons_total",
    "counter",
    "Choices that have ended, by why. A request with n choices counts n times.",
    "sum by (reason) (rate(headstart_finish_reasons_total[5m]))",
    (_MODEL, _REASON),
)
REFUSALS = Metric(
    "headstart_refusals_total",
    "counter",
    "Requests and connections that the gateway itself turned away, by why. What an engine refuses "
    "is not in it. Those that came as far as a generation route are also in "
    "headstart_requests_total.",
    "sum by (reason) (rate(headstart_refusals_total[5m]))",
    (_REFUSAL,),
)
CONNECTIONS = Metric(
    "headstart_connections",
    "gauge",
    "Open HTTP connections, idle ones included, refused ones not.",
    "sum(headstart_connections)",
)
STREAMS = Metric(
    "headstart_streams",
    "gauge",
    "Token logs the gateway holds: still growing, or finished and kept until they expire.",
    "sum by (state) (headstart_streams)",
    (_STREAM_STATE,),
)
LOG_BYTES = Metric(
    "headstart_log_bytes",
    "gauge",
    "Memory of the token logs the gateway holds: encoded bytes, and 2,560 for each finished one.",
    "sum(headstart_log_bytes) / (sum(headstart_streams) > 0)",
)
REPLICAS = Metric(
    "headstart_replicas",
    "gauge",
    "Replicas the control plane has published (known), and those of them the gateway is "
    "connected to (up).",
    'headstart_replicas{state="known"} - ignoring(state) headstart_replicas{state="up"}',
    (_MODEL, _REPLICA_STATE),
)
REPLICA_WAITING = Metric(
    "headstart_replica_waiting_requests",
    "gauge",
    "Requests in the engines' waiting queues, summed over a model's replicas, as last reported.",
    "sum by (model) (headstart_replica_waiting_requests)",
    (_MODEL,),
)
REPLICA_RUNNING = Metric(
    "headstart_replica_running_requests",
    "gauge",
    "Requests in the engines' running batches, summed over a model's replicas, as last reported.",
    "sum by (model) (headstart_replica_running_requests)",
    (_MODEL,),
)
RESCUES = Metric(
    "headstart_rescues_total",
    "counter",
    "Detached answers whose replica, link or gateway was lost, by what became of them: taken up "
    "(the replica lived), moved (another was asked to go on), refused (it could not go on "
    "exactly), given up. A refused answer was moved first, so it counts twice.",
    "sum by (outcome) (rate(headstart_rescues_total[5m]))",
    (_MODEL, _RESCUE),
)
CLOCK_UNCERTAINTY = Metric(
    "headstart_clock_offset_uncertainty_seconds",
    "gauge",
    "Largest error that moving a replica's stamps onto the gateway's clock can make; the worst "
    "of a model's replicas. Infinite before the first ping. It bounds the error of hop.",
    "max by (model) (headstart_clock_offset_uncertainty_seconds)",
    (_MODEL,),
)
FRAME_PROJECT = Metric(
    "headstart_frame_project_seconds",
    "histogram",
    "Time the gateway takes to turn one frame into the event its reader gets.",
    "histogram_quantile(0.99, sum by (le) (rate(headstart_frame_project_seconds_bucket[5m])))",
    buckets=_PROJECT_S,
)
LOOP_LAG = Metric(
    "headstart_event_loop_lag_seconds",
    "histogram",
    "How late the gateway's event loop runs a timer. Every token waits that long.",
    "histogram_quantile(0.99, sum by (le) (rate(headstart_event_loop_lag_seconds_bucket[5m])))",
    buckets=_LOOP_LAG_S,
)
TASKS = Metric(
    "headstart_event_loop_tasks",
    "gauge",
    "Tasks on the gateway's event loop. It follows the number of connections and answers; one "
    "that climbs while those do not is a leak.",
    "headstart_event_loop_tasks",
)
QUIC_CONNECTIONS = Metric(
    "headstart_quic_connections",
    "gauge",
    "QUIC connections with an open session, by what they speak.",
    "sum by (carrier) (headstart_quic_connections)",
    (_CARRIER,),
)
DATAGRAMS = Metric(
    "headstart_datagrams_total",
    "counter",
    "Datagrams sent to readers, by why: new text, or a repeat, probe, repair or heartbeat.",
    "sum by (cause) (rate(headstart_datagrams_total[5m]))",
    (_SEND_CAUSE,),
)
DATAGRAM_BYTES = Metric(
    "headstart_datagram_bytes_total",
    "counter",
    "Payload bytes of those datagrams, without the headers of QUIC, UDP and IP.",
    "sum(rate(headstart_datagram_bytes_total[5m]))",
)
DATAGRAM_FRESH_BYTES = Metric(
    "headstart_datagram_fresh_bytes_total",
    "counter",
    "Token-log bytes that those datagrams carried for the first time. They are coded shorter than "
    "in the log, so payload divided by these is below the true redundancy.",
    "sum(rate(headstart_datagram_bytes_total[5m]))"
    " / (sum(rate(headstart_datagram_fresh_bytes_total[5m])) > 0)",
)
DATAGRAMS_REPLACED = Metric(
    "headstart_datagrams_replaced_total",
    "counter",
    "Datagrams that never left, because a newer one of their stream took their place while the "
    "path was full.",
    "sum(rate(headstart_datagrams_replaced_total[5m]))",
)
ACKS = Metric(
    "headstart_acks_total",
    "counter",
    "Datagrams received from readers, by what became of them. What a reader claims is not "
    "trusted: impossible times are clamped, cursors never sent are refused.",
    "sum by (outcome) (rate(headstart_acks_total[5m]))",
    (_ACK,),
)
READER_RTT = Metric(
    "headstart_reader_rtt_seconds",
    "histogram",
    "Smoothed round trip between gateway and reader, from acknowledgements, as an answer ends. "
    "One observation an answer and reader.",
    "histogram_quantile(0.95, sum by (le) (rate(headstart_reader_rtt_seconds_bucket[5m])))",
    buckets=_RTT_S,
)
RENDER_GAP = Metric(
    "headstart_render_gap_seconds",
    "histogram",
    "Time between two advances of what a reader shows, by its own account, clamped; where it does "
    "not say when it showed text, when that arrived.",
    "histogram_quantile(0.99, sum by (le) (rate(headstart_render_gap_seconds_bucket[5m])))",
    buckets=_GAP_S,
)
STALLS = Metric(
    "headstart_stalls_total",
    "counter",
    "Render gaps of 0.2 s or more, by what most of the gap was spent on: waiting for tokens "
    "(generation), for their arrival (network), or for the screen (client).",
    "sum by (cause) (rate(headstart_stalls_total[5m]))",
    (_STALL,),
)
CATCH_UPS = Metric(
    "headstart_catch_ups_total",
    "counter",
    "Stretches of a log that were too long for datagrams and went over a reliable stream.",
    "sum(rate(headstart_catch_ups_total[5m]))",
)
FALLBACKS = Metric(
    "headstart_fallbacks_total",
    "counter",
    "Readers that were moved from datagrams to a reliable stream, by why.",
    "sum by (reason) (rate(headstart_fallbacks_total[5m]))",
    (_FALLBACK,),
)
RESUMES = Metric(
    "headstart_resumes_total",
    "counter",
    "Readers that came over QUIC for an answer asked for elsewhere, by what became of them.",
    "sum by (outcome) (rate(headstart_resumes_total[5m]))",
    (_RESUME,),
)
DECODE_ROWS = Metric(
    "headstart_decode_rows_total",
    "counter",
    "Requests in the engine steps that gave them tokens, summed, for models that speculate. As the "
    "other counts of speculation, they are the engines' own, seconds late, and the same at every "
    "gateway.",
    "sum by (model) (rate(headstart_decode_rows_total[5m]))",
    (_MODEL,),
)
DECODE_TOKENS = Metric(
    "headstart_decode_tokens_total",
    "counter",
    "Tokens that those requests gained: divided by the rows, tokens per step.",
    "sum by (model) (rate(headstart_decode_tokens_total[5m]))"
    " / (sum by (model) (rate(headstart_decode_rows_total[5m])) > 0)",
    (_MODEL,),
)
DRAFTED_TOKENS = Metric(
    "headstart_drafted_tokens_total",
    "counter",
    "Drafted tokens that a step verified, by who drafted them and where in the draft they stood.",
    "sum by (source) (rate(headstart_drafted_tokens_total[5m]))",
    (_MODEL, _SOURCE, _POSITION),
)
ACCEPTED_TOKENS = Metric(
    "headstart_accepted_tokens_total",
    "counter",
    "Those of them that became part of the answer.",
    "sum by (position) (rate(headstart_accepted_tokens_total[5m]))"
    " / (sum by (position) (rate(headstart_drafted_tokens_total[5m])) > 0)",
    (_MODEL, _SOURCE, _POSITION),
)
DRAFT_SECONDS = Metric(
    "headstart_draft_seconds_total",
    "counter",
    "Time that engines spent on drafting, for whole batches.",
    "sum(rate(headstart_draft_seconds_total[5m]))"
    " / (sum(rate(headstart_decode_seconds_total[5m])) > 0)",
    (_MODEL,),
)
DECODE_SECONDS = Metric(
    "headstart_decode_seconds_total",
    "counter",
    "Time in the model and the sampler, for whole batches without prompts: in steps that verified "
    "a draft, and in those that computed one token a request.",
    "sum by (kind) (rate(headstart_decode_seconds_total[5m]))",
    (_MODEL, _STEP_KIND),
)
UNDRAFTED = Metric(
    "headstart_undrafted_total",
    "counter",
    "Requests, or proposers of one, that went without drafts although drafts were asked for, by "
    "why: a sampling feature that does not go with them, a missing drafter, a fault.",
    "sum by (reason) (rate(headstart_undrafted_total[5m]))",
    (_MODEL, _UNDRAFTED),
)
LIVE_SESSIONS = Metric(
    "headstart_live_sessions",
    "gauge",
    "Prompts that are being written now, idle ones included.",
    "sum(headstart_live_sessions)",
)
LIVE_EDITS = Metric(
    "headstart_live_edits_total",
    "counter",
    "Edits of live prompts, by kind. One edit may be a letter or a whole page.",
    "sum by (kind) (rate(headstart_live_edits_total[5m]))",
    (_EDIT,),
)
LIVE_STAGE_DURATION = Metric(
    "headstart_live_stage_seconds",
    "histogram",
    "Time of one piece of work on a live prompt before it is sent off: taking an event (ingest), "
    "finding what can no longer change (segment), making token ids (render, hop included), "
    "prefilling a slice (warm, engine time without the wait for a turn), making a thought (think, "
    "with its waits). The request that sends it off is in headstart_stage_duration_seconds, and "
    "none of this is.",
    "sum by (stage) (rate(headstart_live_stage_seconds_sum[5m]))"
    " / sum by (stage) (rate(headstart_live_stage_seconds_count[5m]))",
    (_LIVE_STAGE, _MODEL),
    _STAGE_S,
)
LIVE_WARM_TOKENS = Metric(
    "headstart_live_warm_tokens_total",
    "counter",
    "Prompt tokens that slices have computed ahead; what was cached already is not in it.",
    "sum(rate(headstart_live_warm_tokens_total[5m]))",
    (_MODEL,),
)
LIVE_WASTED_TOKENS = Metric(
    "headstart_live_wasted_tokens_total",
    "counter",
    "Prompt tokens computed ahead that no committed prompt found in the cache, counted when a "
    "turn ends: edited away, evicted, or never sent off. An aborted slice counts as a whole.",
    "sum(rate(headstart_live_wasted_tokens_total[5m]))"
    " / (sum(rate(headstart_live_committed_tokens_total[5m])) > 0)",
    (_MODEL,),
)
LIVE_COMMITTED_TOKENS = Metric(
    "headstart_live_committed_tokens_total",
    "counter",
    "Prompt tokens of live prompts that were sent off.",
    "sum(rate(headstart_live_committed_tokens_total[5m]))",
    (_MODEL,),
)
LIVE_CACHED_SHARE = Metric(
    "headstart_live_cached_share",
    "histogram",
    "Share of a committed live prompt's tokens that the prefix cache held.",
    "histogram_quantile(0.5, sum by (le) (rate(headstart_live_cached_share_bucket[5m])))",
    (_MODEL,),
    _SHARE,
)
LIVE_HIDDEN = Metric(
    "headstart_live_hidden_seconds_total",
    "counter",
    "Engine time spent ahead on tokens that a committed prompt then found in the cache: prefill "
    "that nobody waited for. Credited, never part of a request's stages.",
    "sum(rate(headstart_live_hidden_seconds_total[5m]))",
    (_MODEL,),
)
LIVE_ABORTED = Metric(
    "headstart_live_aborted_slices_total",
    "counter",
    "Slices that were stopped before their end, by why.",
    "sum by (reason) (rate(headstart_live_aborted_slices_total[5m]))",
    (_WHY,),
)
LIVE_THOUGHTS = Metric(
    "headstart_live_thoughts_total",
    "counter",
    "Thoughts about live prompts (LiveMind), by what became of them: used (in an answer's prompt), "
    "wait (the model had nothing to say yet), dropped (its text was edited or never sent off); or "
    "stopped by an edit (edited), at commit (committed), for requests that waited (yielded); or "
    "failed. The model is the one that answers.",
    "sum by (outcome) (rate(headstart_live_thoughts_total[5m]))",
    (_THOUGHT, _MODEL),
)
LIVE_THOUGHT_TOKENS = Metric(
    "headstart_live_thought_tokens_total",
    "counter",
    "Tokens that thoughts have taken, by what became of the thought. Of one whose end nobody has "
    "seen, as many as it was allowed.",
    "sum by (outcome) (rate(headstart_live_thought_tokens_total[5m]))",
    (_THOUGHT, _MODEL),
)
LIVE_THOUGHTS_STARVED = Metric(
    "headstart_live_thoughts_starved_total",
    "counter",
    "Times that a thought had to wait because a budget was used up: the key's, or the gateway's.",
    "sum(rate(headstart_live_thoughts_starved_total[5m]))",
    (_MODEL,),
)
BUILD_INFO = Metric(
    "headstart_build_info",
    "gauge",
    "Always 1; the version label says what is running.",
    "count by (version) (headstart_build_info)",
    (_VERSION,),
)

METRICS = (
    STAGE_DURATION,
    STAGE_INFLIGHT,
    TTFT,
    INTER_FRAME,
    INTER_TOKEN,
    PER_OUTPUT_TOKEN,
    REQUEST_DURATION,
    REQUESTS,
    PROMPT_TOKENS,
    CACHED_PROMPT_TOKENS,
    OUTPUT_TOKENS,
    FINISH_REASONS,
    REFUSALS,
    CONNECTIONS,
    STREAMS,
    LOG_BYTES,
    REPLICAS,
    REPLICA_WAITING,
    REPLICA_RUNNING,
    RESCUES,
    CLOCK_UNCERTAINTY,
    FRAME_PROJECT,
    LOOP_LAG,
    TASKS,
    QUIC_CONNECTIONS,
    DATAGRAMS,
    DATAGRAM_BYTES,
    DATAGRAM_FRESH_BYTES,
    DATAGRAMS_REPLACED,
    ACKS,
    READER_RTT,
    RENDER_GAP,
    STALLS,
    CATCH_UPS,
    FALLBACKS,
    RESUMES,
    DECODE_ROWS,
    DECODE_TOKENS,
    DRAFTED_TOKENS,
    ACCEPTED_TOKENS,
    DRAFT_SECONDS,
    DECODE_SECONDS,
    UNDRAFTED,
    LIVE_SESSIONS,
    LIVE_EDITS,
    LIVE_STAGE_DURATION,
    LIVE_WARM_TOKENS,
    LIVE_WASTED_TOKENS,
    LIVE_COMMITTED_TOKENS,
    LIVE_CACHED_SHARE,
    LIVE_HIDDEN,
    LIVE_ABORTED,
    LIVE_THOUGHTS,
    LIVE_THOUGHT_TOKENS,
    LIVE_THOUGHTS_STARVED,
    BUILD_INFO,
)

ALIASES = (
    Alias("gen_ai_server_time_to_first_token_seconds", TTFT),
    Alias("gen_ai_server_time_per_output_token_seconds", PER_OUTPUT_TOKEN),
    Alias("gen_ai_server_request_duration_seconds", REQUEST_DURATION),
)
"""OpenTelemetry GenAI's server metrics in Prometheus form."""
