"""The gateway and its replicas."""

from headstart.monitoring import catalogue_gateway as gateway
from headstart.monitoring.promql import rate, series, total
from headstart.monitoring.views import Kind, Query, Row, View, quantiles

__all__ = ["MACHINERY"]

MACHINERY = Row(
    "Machinery",
    (
        View(
            "Replicas",
            "short",
            "Known above up: a replica is starting, or its link is down.",
            (Query(total(series(gateway.REPLICAS), "model", "state"), "{{model}} {{state}}"),),
        ),
        View(
            "Connections",
            "short",
            "Bounded by gateway.max_connections.",
            (Query(total(series(gateway.CONNECTIONS)), "open"),),
        ),
        View(
            "Rescued answers",
            "cps",
            "Detached answers that lost their replica. Refused or given up: a reader saw an error.",
            (Query(rate(gateway.RESCUES, "outcome"), "{{outcome}}"),),
        ),
        View(
            "Streams",
            "short",
            "Finished ones go by age and total size. All models.",
            (Query(total(series(gateway.STREAMS), "state"), "{{state}}"),),
            Kind.STACK,
        ),
        View(
            "Memory of token logs",
            "bytes",
            "Bounded by the retention settings. All models.",
            (Query(total(series(gateway.LOG_BYTES)), "token logs"),),
        ),
        View(
            "Event-loop lag",
            "s",
            "Above 20 ms at p99 the gateway is short of CPU, or something blocks it.",
            quantiles(gateway.LOOP_LAG, 0.5, 0.99),
        ),
        View(
            "Event-loop tasks",
            "short",
            "Climbing while streams and requests do not: a leak.",
            (Query(series(gateway.TASKS), "tasks"),),
        ),
        View(
            "Cost of projecting a frame",
            "s",
            "Paid for every written frame, on the event loop.",
            quantiles(gateway.FRAME_PROJECT, 0.5, 0.99),
        ),
        View(
            "Clock uncertainty",
            "s",
            "No line until a replica's clock is known.",
            (Query(f"max by (model) ({series(gateway.CLOCK_UNCERTAINTY)}) < Inf", "{{model}}"),),
        ),
    ),
)
