"""What became of the requests: how many, how soon, and in which stage the time went."""

from headstart.monitoring import catalogue_gateway as gateway
from headstart.monitoring import catalogue_requests as requests
from headstart.monitoring.promql import increase, mean, quantile, rate, series, total
from headstart.monitoring.views import Kind, Query, Row, View, quantiles
from headstart.stages.stage_clock import Stage

__all__ = ["FIRST_TOKEN", "NOW", "REQUESTS", "STAGES"]


def _stage_quantile(value: float) -> View:
    return View(
        f"Time per stage, p{100 * value:g}",
        "s",
        "Each stage by itself: quantiles of stages do not add up to that of the request.",
        (Query(quantile(value, requests.STAGE_DURATION, "stage"), "{{stage}}"),),
        Kind.LOG_LINES,
    )


def _stat(title: str, unit: str, note: str, expr: str, legend: str) -> View:
    return View(title, unit, note, (Query(expr, legend),), Kind.STAT)


NOW = Row(
    "Now",
    (
        _stat(
            "Requests ended",
            "reqps",
            "All that ended, however.",
            rate(requests.REQUESTS),
            "requests",
        ),
        _stat(
            "Failed by us",
            "percentunit",
            "Share of requests that ended in an engine error. A client's own errors are not in it.",
            rate(requests.REQUESTS, where='outcome="engine_error"')
            + f" / ({rate(requests.REQUESTS)} > 0)",
            "engine errors",
        ),
        _stat(
            "First token, p95",
            "s",
            "Interpolated in a bucket.",
            quantile(0.95, requests.TTFT),
            "p95",
        ),
        _stat(
            "Output", "cps", "Tokens a second, all streams.", rate(requests.OUTPUT_TOKENS), "tokens"
        ),
        _stat(
            "Live streams",
            "short",
            "Answers being made now, of all models.",
            total(series(gateway.STREAMS, where='state="live"')),
            "live",
        ),
        _stat(
            "Replicas up",
            "short",
            "While none is up, no request can be answered.",
            total(series(gateway.REPLICAS, where='state="up"')),
            "up",
        ),
    ),
)

_BEFORE_DECODE = 'stage=~"{}"'.format("|".join(tuple(Stage)[: tuple(Stage).index(Stage.DECODE)]))

STAGES = Row(
    "Where the time goes",
    (
        View(
            "Mean time per stage",
            "s",
            "Means add up: the stack is about the mean request. Each is over the requests that "
            "passed the stage, so failures count up to where they failed.",
            (Query(mean(requests.STAGE_DURATION, "stage"), "{{stage}}"),),
            Kind.STACK,
        ),
        View(
            "Mean time to the first token, by stage",
            "s",
            "The stages before decode, which hides them in the panel beside this one.",
            (Query(mean(requests.STAGE_DURATION, "stage", where=_BEFORE_DECODE), "{{stage}}"),),
            Kind.STACK,
        ),
        _stage_quantile(0.5),
        _stage_quantile(0.95),
        View(
            "In flight by stage",
            "short",
            "A stage that grows while no request ends is stuck. All models.",
            (Query(total(series(requests.STAGE_INFLIGHT), "stage"), "{{stage}}"),),
            Kind.STACK,
        ),
        View(
            "Whole request",
            "s",
            "Above all a matter of how long the answers are.",
            quantiles(requests.REQUEST_DURATION, 0.5, 0.95, 0.99),
        ),
    ),
)

FIRST_TOKEN = Row(
    "First token",
    (
        View(
            "Time to first token",
            "s",
            "Interpolated in a bucket; the heatmap shows the buckets.",
            quantiles(requests.TTFT, 0.5, 0.95, 0.99),
        ),
        View(
            "Time to first token, every answer",
            "s",
            "Answers per bucket. Two bands are often cached and uncached prompts.",
            (Query(increase(requests.TTFT, "le", suffix="_bucket"), "{{le}}"),),
            Kind.HEATMAP,
        ),
    ),
)

REQUESTS = Row(
    "Requests",
    (
        View(
            "Requests by outcome",
            "reqps",
            "Requests for no configured model show only while all models are chosen.",
            (Query(rate(requests.REQUESTS, "outcome"), "{{outcome}}"),),
            Kind.STACK,
        ),
        View(
            "Refused by the gateway",
            "reqps",
            "What reached no engine. Rate limits are a key's own; overloaded and connections are "
            "the gateway's.",
            (Query(rate(gateway.REFUSALS, "reason"), "{{reason}}"),),
            Kind.STACK,
        ),
        View(
            "Finish reasons",
            "cps",
            "Much length: answers that loop, or limits that cut.",
            (Query(rate(requests.FINISH_REASONS, "reason"), "{{reason}}"),),
            Kind.STACK,
        ),
        View(
            "Prompt tokens",
            "cps",
            "The cached ones are part of all; what lies between the lines was prefilled.",
            (
                Query(rate(requests.PROMPT_TOKENS), "all"),
                Query(rate(requests.CACHED_PROMPT_TOKENS), "from the prefix cache"),
            ),
        ),
        View(
            "Requests in the engines",
            "short",
            "Waiting above zero for long: the replicas are full.",
            (
                Query(total(series(gateway.REPLICA_RUNNING), "model"), "{{model}} running"),
                Query(total(series(gateway.REPLICA_WAITING), "model"), "{{model}} waiting"),
            ),
        ),
    ),
)
