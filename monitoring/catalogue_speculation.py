"""Several tokens a step: drafted, accepted, and what it took."""

from headstart.monitoring.labels import Label, StepKind
from headstart.monitoring.metric import MODEL, Metric
from headstart.stages.drafting import Source
from headstart.stages.speculation_labels import Decision, Position, Undrafted

_SOURCE = Label("source", tuple(Source))
_POSITION = Label("position", tuple(Position))
_LANGUAGE = Label("language")
"""Of the input: those that a model declares, `other` ones, and `none`; each model has its own."""
_UNDRAFTED = Label("reason", tuple(Undrafted))
_STEP_KIND = Label("kind", tuple(StepKind))
_DECISION = Label("decision", tuple(Decision))

DECODE_ROWS = Metric(
    "headstart_decode_rows_total",
    "counter",
    "Requests in the engine steps that gave them tokens, summed, for models that speculate. As the "
    "other counts of speculation, they are the engines' own, seconds late, and the same at every "
    "gateway. The language is that of the input, where the model declares it; other is one that it "
    "does not, none is unknown or not asked for.",
    "sum by (model) (rate(headstart_decode_rows_total[5m]))",
    (MODEL, _LANGUAGE),
)
DECODE_TOKENS = Metric(
    "headstart_decode_tokens_total",
    "counter",
    "Tokens that those requests gained: divided by the rows, tokens per step.",
    "sum by (language) (rate(headstart_decode_tokens_total[5m]))"
    " / (sum by (language) (rate(headstart_decode_rows_total[5m])) > 0)",
    (MODEL, _LANGUAGE),
)
DRAFTS = Metric(
    "headstart_drafts_total",
    "counter",
    "Drafts that a step verified, one a request, by who drafted: each gained its accepted tokens, "
    "and the one that the step gives anyway.",
    "1 + sum by (source) (rate(headstart_accepted_tokens_total[5m]))"
    " / (sum by (source) (rate(headstart_drafts_total[5m])) > 0)",
    (MODEL, _SOURCE, _LANGUAGE),
)
DRAFTED_TOKENS = Metric(
    "headstart_drafted_tokens_total",
    "counter",
    "Drafted tokens that a step verified, by who drafted them and where in the draft they stood.",
    "sum by (source) (rate(headstart_drafted_tokens_total[5m]))",
    (MODEL, _SOURCE, _POSITION, _LANGUAGE),
)
ACCEPTED_TOKENS = Metric(
    "headstart_accepted_tokens_total",
    "counter",
    "Those of them that became part of the answer.",
    "sum by (source, language, position) (rate(headstart_accepted_tokens_total[5m]))"
    " / (sum by (source, language, position) (rate(headstart_drafted_tokens_total[5m])) > 0)",
    (MODEL, _SOURCE, _POSITION, _LANGUAGE),
)
DRAFT_SECONDS = Metric(
    "headstart_draft_seconds_total",
    "counter",
    "Time that engines spent on drafting, for whole batches.",
    "sum(rate(headstart_draft_seconds_total[5m]))"
    " / (sum(rate(headstart_decode_seconds_total[5m])) > 0)",
    (MODEL,),
)
DECODE_SECONDS = Metric(
    "headstart_decode_seconds_total",
    "counter",
    "Time in the model and the sampler, for whole batches: in steps that verified a draft, in "
    "those that computed one token a request, and in those that computed prompts besides.",
    "sum by (kind) (rate(headstart_decode_seconds_total[5m]))",
    (MODEL, _STEP_KIND),
)
DECODE_STEPS = Metric(
    "headstart_decode_steps_total",
    "counter",
    "Those steps: the seconds divided by them are what a step takes.",
    "sum by (kind) (rate(headstart_decode_seconds_total[5m]))"
    " / (sum by (kind) (rate(headstart_decode_steps_total[5m])) > 0)",
    (MODEL, _STEP_KIND),
)
DRAFT_DECISIONS = Metric(
    "headstart_draft_decisions_total",
    "counter",
    "Steps by what the controller decided at their end, for the next: draft, probe (nothing pays, "
    "and one token is tried), no_gain (nothing pays), measure (a plain step, to know what one "
    "takes), no_draft (nothing on offer), rest (looking for drafts has had its share of the time).",
    "sum by (decision) (rate(headstart_draft_decisions_total[5m]))",
    (MODEL, _DECISION),
)
UNDRAFTED = Metric(
    "headstart_undrafted_total",
    "counter",
    "Requests, or proposers of one, that went without drafts although drafts were asked for, by "
    "why: a sampling feature that does not go with them, a missing drafter, a fault.",
    "sum by (reason) (rate(headstart_undrafted_total[5m]))",
    (MODEL, _UNDRAFTED),
)

METRICS = (
    DECODE_ROWS,
    DECODE_TOKENS,
    DRAFTS,
    DRAFTED_TOKENS,
    ACCEPTED_TOKENS,
    DRAFT_SECONDS,
    DECODE_SECONDS,
    DECODE_STEPS,
    DRAFT_DECISIONS,
    UNDRAFTED,
)
