"""Prompts that are being written, and what is computed of them ahead."""

from headstart.monitoring.labels import Label
from headstart.monitoring.metric import MODEL, STAGE_S, Metric
from headstart.stages.mind_events import ThoughtOutcome
from headstart.stages.warm_events import Budget, EditKind, LiveStage, Why

_LIVE_STAGE = Label("stage", tuple(LiveStage))
_THOUGHT = Label("outcome", tuple(ThoughtOutcome))
_EDIT = Label("kind", tuple(EditKind))
_WHY = Label("reason", tuple(Why))
_BUDGET = Label("budget", tuple(Budget))

_SHARE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)

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
    "Time of one piece of work on a live prompt before it is sent off: taking edits (ingest), "
    "finding what can no longer change or where sentences end (segment), making token ids "
    "(render, hop included), prefilling a slice (warm, from its first to its last step in the "
    "engine), making a thought (think, with its waits). The request that sends it off is in "
    "headstart_stage_duration_seconds, and none of this is.",
    "sum by (stage) (rate(headstart_live_stage_seconds_sum[5m]))"
    " / sum by (stage) (rate(headstart_live_stage_seconds_count[5m]))",
    (_LIVE_STAGE, MODEL),
    STAGE_S,
)
LIVE_WARM_TOKENS = Metric(
    "headstart_live_warm_tokens_total",
    "counter",
    "Prompt tokens computed ahead, of texts and of the prompts of thoughts about them; what was "
    "cached already is not in it.",
    "sum(rate(headstart_live_warm_tokens_total[5m]))",
    (MODEL,),
)
LIVE_WASTED_TOKENS = Metric(
    "headstart_live_wasted_tokens_total",
    "counter",
    "Prompt tokens computed ahead that no committed prompt found in the cache, counted when a "
    "turn ends: edited away, evicted, never sent off, or of the prompts of thoughts and of no use "
    "to the answer's. An aborted slice counts as a whole. The model is the one that answers.",
    "sum(rate(headstart_live_wasted_tokens_total[5m]))"
    " / (sum(rate(headstart_live_committed_tokens_total[5m])) > 0)",
    (MODEL,),
)
LIVE_COMMITTED_TOKENS = Metric(
    "headstart_live_committed_tokens_total",
    "counter",
    "Prompt tokens of live prompts that were sent off.",
    "sum(rate(headstart_live_committed_tokens_total[5m]))",
    (MODEL,),
)
LIVE_CACHED_SHARE = Metric(
    "headstart_live_cached_share",
    "histogram",
    "Share of a committed live prompt's tokens that the prefix cache held.",
    "histogram_quantile(0.5, sum by (le) (rate(headstart_live_cached_share_bucket[5m])))",
    (MODEL,),
    _SHARE,
)
LIVE_HIDDEN = Metric(
    "headstart_live_hidden_seconds_total",
    "counter",
    "Time that the engine had slices in its batch whose tokens a committed prompt then found in "
    "the cache: prefill that nobody waited for, what ran beside it included. Credited, never part "
    "of a request's stages.",
    "sum(rate(headstart_live_hidden_seconds_total[5m]))",
    (MODEL,),
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
    "failed. The model is the one that thinks.",
    "sum by (outcome) (rate(headstart_live_thoughts_total[5m]))",
    (_THOUGHT, MODEL),
)
LIVE_THOUGHT_TOKENS = Metric(
    "headstart_live_thought_tokens_total",
    "counter",
    "Tokens that thoughts have taken, by what became of the thought. Of one whose end nobody has "
    "seen, as many as it was allowed.",
    "sum by (outcome) (rate(headstart_live_thought_tokens_total[5m]))",
    (_THOUGHT, MODEL),
)
LIVE_BUDGET_WAITS = Metric(
    "headstart_live_budget_waits_total",
    "counter",
    "Times that work on a live prompt had to wait because a budget was used up, the key's or the "
    "gateway's: of prompt tokens computed ahead (warm), or of thought tokens (thoughts).",
    "sum by (budget) (rate(headstart_live_budget_waits_total[5m]))",
    (_BUDGET, MODEL),
)

METRICS = (
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
    LIVE_BUDGET_WAITS,
)
