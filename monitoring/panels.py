"""What the dashboards show: rows of views, each with a title, a unit and its queries.

Data only; `headstart.monitoring.dashboards` draws it. Quantiles are never added up or averaged.
"""

from dataclasses import dataclass
from enum import Enum, auto

from headstart.monitoring import catalogue as c
from headstart.monitoring.catalogue import Metric
from headstart.monitoring.promql import increase, mean, quantile, rate, series, total
from headstart.stages.stage_clock import Stage

__all__ = ["OVERVIEW", "UNSHOWN", "Kind", "Query", "Row", "View"]


class Kind(Enum):
    """How a view is drawn."""

    STAT = auto()
    LINES = auto()
    LOG_LINES = auto()
    """For what spans orders of magnitude."""
    STACK = auto()
    """Lines on top of each other; only for what may be added up."""
    HEATMAP = auto()


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and the name of its lines."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class View:
    """One panel."""

    title: str
    unit: str
    """Grafana's unit id."""
    note: str
    """What to keep in mind; the help of each metric is added to it."""
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels."""

    title: str
    views: tuple[View, ...]


def _quantiles(metric: Metric, *values: float) -> tuple[Query, ...]:
    return tuple(Query(quantile(value, metric), f"p{100 * value:g}") for value in values)


def _stage_quantile(value: float) -> View:
    return View(
        f"Time per stage, p{100 * value:g}",
        "s",
        "Each stage by itself: quantiles of stages do not add up to that of the request.",
        (Query(quantile(value, c.STAGE_DURATION, "stage"), "{{stage}}"),),
        Kind.LOG_LINES,
    )


def _stat(title: str, unit: str, note: str, expr: str, legend: str) -> View:
    return View(title, unit, note, (Query(expr, legend),), Kind.STAT)


_NOW = Row(
    "Now",
    (
        _stat("Requests ended", "reqps", "All that ended, however.", rate(c.REQUESTS), "requests"),
        _stat(
            "Failed by us",
            "percentunit",
            "Share of requests that ended in an engine error. A client's own errors are not in it.",
            rate(c.REQUESTS, where='outcome="engine_error"') + f" / ({rate(c.REQUESTS)} > 0)",
            "engine errors",
        ),
        _stat("First token, p95", "s", "Interpolated in a bucket.", quantile(0.95, c.TTFT), "p95"),
        _stat("Output", "cps", "Tokens a second, all streams.", rate(c.OUTPUT_TOKENS), "tokens"),
        _stat(
            "Live streams",
            "short",
            "Answers being made now, of all models.",
            total(series(c.STREAMS, where='state="live"')),
            "live",
        ),
        _stat(
            "Replicas up",
            "short",
            "While none is up, no request can be answered.",
            total(series(c.REPLICAS, where='state="up"')),
            "up",
        ),
    ),
)

_BEFORE_DECODE = 'stage=~"{}"'.format("|".join(tuple(Stage)[: tuple(Stage).index(Stage.DECODE)]))

_STAGES = Row(
    "Where the time goes",
    (
        View(
            "Mean time per stage",
            "s",
            "Means add up: the stack is about the mean request. Each is over the requests that "
            "passed the stage, so failures count up to where they failed.",
            (Query(mean(c.STAGE_DURATION, "stage"), "{{stage}}"),),
            Kind.STACK,
        ),
        View(
            "Mean time to the first token, by stage",
            "s",
            "The stages before decode, which hides them in the panel beside this one.",
            (Query(mean(c.STAGE_DURATION, "stage", where=_BEFORE_DECODE), "{{stage}}"),),
            Kind.STACK,
        ),
        _stage_quantile(0.5),
        _stage_quantile(0.95),
        View(
            "In flight by stage",
            "short",
            "A stage that grows while no request ends is stuck. All models.",
            (Query(total(series(c.STAGE_INFLIGHT), "stage"), "{{stage}}"),),
            Kind.STACK,
        ),
        View(
            "Whole request",
            "s",
            "Above all a matter of how long the answers are.",
            _quantiles(c.REQUEST_DURATION, 0.5, 0.95, 0.99),
        ),
    ),
)

_FIRST_TOKEN = Row(
    "First token",
    (
        View(
            "Time to first token",
            "s",
            "Interpolated in a bucket; the heatmap shows the buckets.",
            _quantiles(c.TTFT, 0.5, 0.95, 0.99),
        ),
        View(
            "Time to first token, every answer",
            "s",
            "Answers per bucket. Two bands are often cached and uncached prompts.",
            (Query(increase(c.TTFT, "le", suffix="_bucket"), "{{le}}"),),
            Kind.HEATMAP,
        ),
    ),
)

_DECODE = Row(
    "Decoding",
    (
        View(
            "Time per streamed token",
            "s",
            "Tokens that arrive together share their gap evenly.",
            (*_quantiles(c.INTER_TOKEN, 0.5, 0.99), Query(mean(c.INTER_TOKEN), "mean")),
        ),
        View(
            "Gap between frames",
            "s",
            "What a reader sees as a pause: several tokens a frame make it longer than the time "
            "per token.",
            _quantiles(c.INTER_FRAME, 0.5, 0.99),
        ),
        View(
            "Time per output token, by request",
            "s",
            "The engine's pace, streamed or not. Short answers weigh as much as long ones.",
            _quantiles(c.PER_OUTPUT_TOKEN, 0.5, 0.95),
        ),
        View(
            "Output tokens",
            "cps",
            "Answers that are not streamed count at their end, all at once.",
            (Query(rate(c.OUTPUT_TOKENS, "model"), "{{model}}"),),
        ),
    ),
)

_REQUESTS = Row(
    "Requests",
    (
        View(
            "Requests by outcome",
            "reqps",
            "Requests for no configured model show only while all models are chosen.",
            (Query(rate(c.REQUESTS, "outcome"), "{{outcome}}"),),
            Kind.STACK,
        ),
        View(
            "Refused by the gateway",
            "reqps",
            "What reached no engine. Rate limits are a key's own; overloaded and connections are "
            "the gateway's.",
            (Query(rate(c.REFUSALS, "reason"), "{{reason}}"),),
            Kind.STACK,
        ),
        View(
            "Finish reasons",
            "cps",
            "Much length: answers that loop, or limits that cut.",
            (Query(rate(c.FINISH_REASONS, "reason"), "{{reason}}"),),
            Kind.STACK,
        ),
        View(
            "Prompt tokens",
            "cps",
            "The cached ones are part of all; what lies between the lines was prefilled.",
            (
                Query(rate(c.PROMPT_TOKENS), "all"),
                Query(rate(c.CACHED_PROMPT_TOKENS), "from the prefix cache"),
            ),
        ),
        View(
            "Requests in the engines",
            "short",
            "Waiting above zero for long: the replicas are full.",
            (
                Query(total(series(c.REPLICA_RUNNING), "model"), "{{model}} running"),
                Query(total(series(c.REPLICA_WAITING), "model"), "{{model}} waiting"),
            ),
        ),
    ),
)

_MACHINERY = Row(
    "Machinery",
    (
        View(
            "Replicas",
            "short",
            "Known above up: a replica is starting, or its link is down.",
            (Query(total(series(c.REPLICAS), "model", "state"), "{{model}} {{state}}"),),
        ),
        View(
            "Connections",
            "short",
            "Bounded by gateway.max_connections.",
            (Query(total(series(c.CONNECTIONS)), "open"),),
        ),
        View(
            "Rescued answers",
            "cps",
            "Detached answers that lost their replica. Refused or given up: a reader saw an error.",
            (Query(rate(c.RESCUES, "outcome"), "{{outcome}}"),),
        ),
        View(
            "Streams",
            "short",
            "Finished ones go by age and total size. All models.",
            (Query(total(series(c.STREAMS), "state"), "{{state}}"),),
            Kind.STACK,
        ),
        View(
            "Memory of token logs",
            "bytes",
            "Bounded by the retention settings. All models.",
            (Query(total(series(c.LOG_BYTES)), "token logs"),),
        ),
        View(
            "Event-loop lag",
            "s",
            "Above 20 ms at p99 the gateway is short of CPU, or something blocks it.",
            _quantiles(c.LOOP_LAG, 0.5, 0.99),
        ),
        View(
            "Event-loop tasks",
            "short",
            "Climbing while streams and requests do not: a leak.",
            (Query(series(c.TASKS), "tasks"),),
        ),
        View(
            "Cost of projecting a frame",
            "s",
            "Paid for every written frame, on the event loop.",
            _quantiles(c.FRAME_PROJECT, 0.5, 0.99),
        ),
        View(
            "Clock uncertainty",
            "s",
            "No line until a replica's clock is known.",
            (Query(f"max by (model) ({series(c.CLOCK_UNCERTAINTY)}) < Inf", "{{model}}"),),
        ),
    ),
)

_TRANSPORT = Row(
    "On the way to the screen",
    (
        View(
            "Render gap",
            "s",
            "What readers over QUIC see as pauses; they report it themselves.",
            _quantiles(c.RENDER_GAP, 0.5, 0.95, 0.99),
        ),
        View(
            "Stalls by cause",
            "cps",
            "generation: the engine paused. network: text was there and had not arrived. client: "
            "it had arrived and was not shown.",
            (Query(rate(c.STALLS, "cause"), "{{cause}}"),),
            Kind.STACK,
        ),
        View(
            "Datagrams sent",
            "cps",
            "Much beside new: losses, or answers whose ends nobody confirms.",
            (
                Query(rate(c.DATAGRAMS, "cause"), "{{cause}}"),
                Query(rate(c.DATAGRAMS_REPLACED), "replaced before they left"),
            ),
        ),
        View(
            "Payload per fresh byte",
            "short",
            "What every token costs on the wire, repeats included; 1 is about no redundancy.",
            (
                Query(
                    rate(c.DATAGRAM_BYTES) + f" / ({rate(c.DATAGRAM_FRESH_BYTES)} > 0)",
                    "payload / fresh",
                ),
            ),
        ),
        View(
            "Acknowledgements",
            "cps",
            "refused, limited or malformed above zero: a client of another make, or an attack.",
            (Query(rate(c.ACKS, "outcome"), "{{outcome}}"),),
            Kind.STACK,
        ),
        View(
            "Round trip to readers",
            "s",
            "Of finished answers.",
            _quantiles(c.READER_RTT, 0.5, 0.95),
        ),
        View(
            "QUIC connections",
            "short",
            "Sessions that are open now.",
            (Query(total(series(c.QUIC_CONNECTIONS), "carrier"), "{{carrier}}"),),
            Kind.STACK,
        ),
        View(
            "Detours",
            "cps",
            "Reliable streams in place of datagrams, and readers that come for an answer.",
            (
                Query(rate(c.CATCH_UPS), "catch-up"),
                Query(rate(c.FALLBACKS, "reason"), "fallback: {{reason}}"),
                Query(rate(c.RESUMES, "outcome"), "resume: {{outcome}}"),
            ),
        ),
    ),
)

_SPECULATION = Row(
    "Several tokens a step",
    (
        View(
            "Tokens per step",
            "short",
            "Of a request, on average; 1 is plain decoding. Models that speculate only.",
            (
                Query(
                    rate(c.DECODE_TOKENS, "model") + f" / ({rate(c.DECODE_ROWS, 'model')} > 0)",
                    "{{model}}",
                ),
            ),
        ),
        View(
            "Drafted and accepted tokens",
            "cps",
            "What is drafted and not accepted was computed for nothing.",
            (
                Query(rate(c.DRAFTED_TOKENS, "source"), "drafted: {{source}}"),
                Query(rate(c.ACCEPTED_TOKENS, "source"), "accepted: {{source}}"),
            ),
        ),
        View(
            "Acceptance by position",
            "percentunit",
            "Share of the drafted tokens at a place in the draft that were accepted.",
            (
                Query(
                    rate(c.ACCEPTED_TOKENS, "position")
                    + f" / ({rate(c.DRAFTED_TOKENS, 'position')} > 0)",
                    "{{position}}",
                ),
            ),
        ),
        View(
            "Engine time while decoding",
            "s",
            "Seconds a second: in the model with and without drafts to verify, and in drafting.",
            (
                Query(rate(c.DECODE_SECONDS, "kind"), "{{kind}}"),
                Query(rate(c.DRAFT_SECONDS), "draft"),
            ),
            Kind.STACK,
        ),
        View(
            "Without drafts",
            "cps",
            "Sampling features, missing drafters and faults, which were not drafted for.",
            (Query(rate(c.UNDRAFTED, "reason"), "{{reason}}"),),
            Kind.STACK,
        ),
    ),
)

_LIVE = Row(
    "While typing",
    (
        View(
            "Cached at commit",
            "percentunit",
            "Share of the prompt that was there when it was sent off. Interpolated in a bucket.",
            _quantiles(c.LIVE_CACHED_SHARE, 0.05, 0.5, 0.95),
        ),
        View(
            "Hidden prefill",
            "s",
            "Seconds of engine time a second that nobody waited for.",
            (Query(rate(c.LIVE_HIDDEN, "model"), "{{model}}"),),
        ),
        View(
            "Computed ahead",
            "cps",
            "Prompt tokens. Much waste: prompts that are edited far back, or never sent off.",
            (
                Query(rate(c.LIVE_WARM_TOKENS), "computed"),
                Query(rate(c.LIVE_WASTED_TOKENS), "wasted"),
                Query(rate(c.LIVE_COMMITTED_TOKENS), "sent off"),
            ),
        ),
        View(
            "Waste ratio",
            "short",
            "Wasted tokens for each prompt token that was sent off.",
            (
                Query(
                    rate(c.LIVE_WASTED_TOKENS) + f" / ({rate(c.LIVE_COMMITTED_TOKENS)} > 0)",
                    "wasted / sent off",
                ),
            ),
        ),
        View(
            "Time of one piece of work",
            "s",
            "Before the prompt is sent off; they run beside each other and do not add up.",
            (Query(mean(c.LIVE_STAGE_DURATION, "stage"), "{{stage}}"),),
            Kind.LOG_LINES,
        ),
        View(
            "Edits",
            "cps",
            "As the client groups them.",
            (Query(rate(c.LIVE_EDITS, "kind"), "{{kind}}"),),
            Kind.STACK,
        ),
        View(
            "Aborted slices",
            "cps",
            "edited and committed are part of the game; moved says that replicas come and go.",
            (Query(rate(c.LIVE_ABORTED, "reason"), "{{reason}}"),),
            Kind.STACK,
        ),
        View(
            "Thoughts",
            "cps",
            "Of LiveMind, by what became of them. Much yielded: requests have had to wait.",
            (Query(rate(c.LIVE_THOUGHTS, "outcome"), "{{outcome}}"),),
            Kind.STACK,
        ),
        View(
            "Thought tokens",
            "cps",
            "All but used and wait were for nothing. starved: budgets that were used up, times a "
            "second.",
            (
                Query(rate(c.LIVE_THOUGHT_TOKENS, "outcome"), "{{outcome}}"),
                Query(rate(c.LIVE_THOUGHTS_STARVED), "starved"),
            ),
        ),
        View(
            "Live prompts",
            "short",
            "Bounded by live.max_sessions.",
            (Query(total(series(c.LIVE_SESSIONS)), "open"),),
        ),
    ),
)

OVERVIEW = (
    _NOW,
    _STAGES,
    _FIRST_TOKEN,
    _DECODE,
    _SPECULATION,
    _REQUESTS,
    _LIVE,
    _TRANSPORT,
    _MACHINERY,
)

UNSHOWN = {c.BUILD_INFO: "names a version, to join with or to count; it has no course to plot"}
"""Metrics that no panel shows, and why."""
