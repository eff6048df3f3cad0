"""Requests and their answers: stages, first tokens, gaps, tokens and ends."""

from headstart.monitoring.labels import FinishReason, Label, Outcome, Route
from headstart.monitoring.metric import GAP_S, MODEL, STAGE_S, Alias, Metric
from headstart.stages.stage_clock import Stage

_STAGE = Label("stage", tuple(Stage))
_ROUTE = Label("route", tuple(Route))
_OUTCOME = Label("outcome", tuple(Outcome))
_REASON = Label("reason", tuple(FinishReason))

# OpenTelemetry GenAI semantic conventions (status: development), one tuple a metric.
_TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_PER_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
_REQUEST_S = tuple(0.01 * 2**power for power in range(14))

STAGE_DURATION = Metric(
    "headstart_stage_duration_seconds",
    "histogram",
    "Time a request spent in one stage, for every stage it passed, whatever became of it. "
    "Stages are disjoint, so their means may be stacked; quantiles of stages never add up. "
    "network and render are known for readers that acknowledge: over QUIC, not over HTTP.",
    "sum by (stage) (rate(headstart_stage_duration_seconds_sum[5m]))"
    " / sum by (stage) (rate(headstart_stage_duration_seconds_count[5m]))",
    (_STAGE, MODEL),
    STAGE_S,
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
    (MODEL,),
    _TTFT_S,
)
INTER_FRAME = Metric(
    "headstart_inter_frame_seconds",
    "histogram",
    "Gap between two frames with tokens written to a reader, whatever number of tokens the "
    "later one holds: what a reader sees as a pause. Not a time per token.",
    "histogram_quantile(0.99, sum by (le) (rate(headstart_inter_frame_seconds_bucket[5m])))",
    (MODEL,),
    GAP_S,
)
INTER_TOKEN = Metric(
    "headstart_inter_token_seconds",
    "histogram",
    "The same gap divided by the tokens of the later frame, counted once for each of them, so "
    "that sum / count is the true time per streamed token under speculative decoding too.",
    "sum(rate(headstart_inter_token_seconds_sum[5m]))"
    " / sum(rate(headstart_inter_token_seconds_count[5m]))",
    (MODEL,),
    GAP_S,
)
PER_OUTPUT_TOKEN = Metric(
    "headstart_time_per_output_token_seconds",
    "histogram",
    "A completed request's decode stage divided by its output tokens after the first: one "
    "observation a request, answers with a single choice only.",
    "histogram_quantile(0.5,"
    " sum by (le) (rate(headstart_time_per_output_token_seconds_bucket[5m])))",
    (MODEL,),
    _PER_TOKEN_S,
)
REQUEST_DURATION = Metric(
    "headstart_request_duration_seconds",
    "histogram",
    "From a request's arrival at the gateway to the last byte written, on the gateway's clock. "
    "Completed requests only: quick refusals would flatter it.",
    "histogram_quantile(0.95, sum by (le) (rate(headstart_request_duration_seconds_bucket[5m])))",
    (MODEL,),
    _REQUEST_S,
)
REQUESTS = Metric(
    "headstart_requests_total",
    "counter",
    "Requests that have ended, by how. model is empty where a request ended before it was known "
    "to ask for a configured model.",
    "sum by (outcome) (rate(headstart_requests_total[5m]))",
    (MODEL, _ROUTE, _OUTCOME),
)
PROMPT_TOKENS = Metric(
    "headstart_prompt_tokens_total",
    "counter",
    "Prompt tokens of requests the engine has taken, cached ones included.",
    "sum(rate(headstart_prompt_tokens_total[5m]))",
    (MODEL,),
)
CACHED_PROMPT_TOKENS = Metric(
    "headstart_cached_prompt_tokens_total",
    "counter",
    "Prompt tokens that the prefix cache held, so that they needed no prefill.",
    "sum(rate(headstart_cached_prompt_tokens_total[5m]))"
    " / (sum(rate(headstart_prompt_tokens_total[5m])) > 0)",
    (MODEL,),
)
OUTPUT_TOKENS = Metric(
    "headstart_output_tokens_total",
    "counter",
    "Tokens of answers: as they are written where the answer is streamed, at its end elsewhere.",
    "sum(rate(headstart_output_tokens_total[5m]))",
    (MODEL,),
)
FINISH_REASONS = Metric(
    "headstart_finish_reasons_total",
    "counter",
    "Choices that have ended, by why. A request with n choices counts n times.",
    "sum by (reason) (rate(headstart_finish_reasons_total[5m]))",
    (MODEL, _REASON),
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
)

ALIASES = (
    Alias("gen_ai_server_time_to_first_token_seconds", TTFT),
    Alias("gen_ai_server_time_per_output_token_seconds", PER_OUTPUT_TOKEN),
    Alias("gen_ai_server_request_duration_seconds", REQUEST_DURATION),
)
"""OpenTelemetry GenAI's server metrics in Prometheus form."""
