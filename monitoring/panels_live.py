"""What is done while prompts are being written."""

from headstart.monitoring import catalogue_live as live
from headstart.monitoring.promql import mean, rate, series, total
from headstart.monitoring.views import Kind, Query, Row, View, quantiles

__all__ = ["LIVE"]

LIVE = Row(
    "While typing",
    (
        View(
            "Cached at commit",
            "percentunit",
            "Share of the prompt that was there when it was sent off. Interpolated in a bucket.",
            quantiles(live.LIVE_CACHED_SHARE, 0.05, 0.5, 0.95),
        ),
        View(
            "Hidden prefill",
            "s",
            "Seconds a second that slices were in the engine and nobody waited.",
            (Query(rate(live.LIVE_HIDDEN, "model"), "{{model}}"),),
        ),
        View(
            "Computed ahead",
            "cps",
            "Prompt tokens. Much waste: prompts that are edited far back, or never sent off.",
            (
                Query(rate(live.LIVE_WARM_TOKENS), "computed"),
                Query(rate(live.LIVE_WASTED_TOKENS), "wasted"),
                Query(rate(live.LIVE_COMMITTED_TOKENS), "sent off"),
            ),
        ),
        View(
            "Waste ratio",
            "short",
            "Wasted tokens for each prompt token that was sent off.",
            (
                Query(
                    rate(live.LIVE_WASTED_TOKENS) + f" / ({rate(live.LIVE_COMMITTED_TOKENS)} > 0)",
                    "wasted / sent off",
                ),
            ),
        ),
        View(
            "Time of one piece of work",
            "s",
            "Before the prompt is sent off; they run beside each other and do not add up.",
            (Query(mean(live.LIVE_STAGE_DURATION, "stage"), "{{stage}}"),),
            Kind.LOG_LINES,
        ),
        View(
            "Edits",
            "cps",
            "As the client groups them.",
            (Query(rate(live.LIVE_EDITS, "kind"), "{{kind}}"),),
            Kind.STACK,
        ),
        View(
            "Aborted slices",
            "cps",
            "All but moved are part of the game; that says that replicas come and go.",
            (Query(rate(live.LIVE_ABORTED, "reason"), "{{reason}}"),),
            Kind.STACK,
        ),
        View(
            "Thoughts",
            "cps",
            "Of LiveMind, by what became of them. Much yielded: requests have had to wait.",
            (Query(rate(live.LIVE_THOUGHTS, "outcome"), "{{outcome}}"),),
            Kind.STACK,
        ),
        View(
            "Thought tokens",
            "cps",
            "All but used and wait were for nothing.",
            (Query(rate(live.LIVE_THOUGHT_TOKENS, "outcome"), "{{outcome}}"),),
        ),
        View(
            "Waits for a budget",
            "cps",
            "Budgets that were used up: live.tokens_per_minute, live.thinking.tokens_per_minute, "
            "or a key's.",
            (Query(rate(live.LIVE_BUDGET_WAITS, "budget"), "{{budget}}"),),
        ),
        View(
            "Live prompts",
            "short",
            "Bounded by live.max_sessions.",
            (Query(total(series(live.LIVE_SESSIONS)), "open"),),
        ),
    ),
)
