"""How fast answers grow, one token a step and several."""

from headstart.monitoring import catalogue_gateway as gateway
from headstart.monitoring import catalogue_requests as requests
from headstart.monitoring import catalogue_speculation as speculation
from headstart.monitoring.promql import mean, rate
from headstart.monitoring.views import Kind, Query, Row, View, quantiles
from headstart.stages.speculation_labels import Position

__all__ = ["DECODE", "SPECULATION"]

_FIRST = f'position="{Position.FIRST}"'

DECODE = Row(
    "Decoding",
    (
        View(
            "Time per streamed token",
            "s",
            "Tokens that arrive together share their gap evenly.",
            (
                *quantiles(requests.INTER_TOKEN, 0.5, 0.99),
                Query(mean(requests.INTER_TOKEN), "mean"),
            ),
        ),
        View(
            "Gap between frames",
            "s",
            "What a reader sees as a pause: several tokens a frame make it longer than the time "
            "per token.",
            quantiles(requests.INTER_FRAME, 0.5, 0.99),
        ),
        View(
            "Time per output token, by request",
            "s",
            "The engine's pace, streamed or not. Short answers weigh as much as long ones.",
            quantiles(requests.PER_OUTPUT_TOKEN, 0.5, 0.95),
        ),
        View(
            "Output tokens",
            "cps",
            "Answers that are not streamed count at their end, all at once.",
            (Query(rate(requests.OUTPUT_TOKENS, "model"), "{{model}}"),),
        ),
    ),
)

SPECULATION = Row(
    "Several tokens a step",
    (
        View(
            "Tokens per step",
            "short",
            "Of a request, on average; 1 is plain decoding. Models that speculate only.",
            (
                Query(
                    rate(speculation.DECODE_TOKENS, "model")
                    + f" / ({rate(speculation.DECODE_ROWS, 'model')} > 0)",
                    "{{model}}",
                ),
                Query(
                    rate(speculation.DECODE_TOKENS, "language")
                    + f" / ({rate(speculation.DECODE_ROWS, 'language')} > 0)",
                    "input in {{language}}",
                ),
            ),
        ),
        View(
            "Tokens of a step with a draft",
            "short",
            "By who drafted and the input's language: the accepted ones, and one more.",
            (
                Query(
                    f"1 + {rate(speculation.ACCEPTED_TOKENS, 'source', 'language')}"
                    f" / ({rate(speculation.DRAFTS, 'source', 'language')} > 0)",
                    "{{source}}, {{language}}",
                ),
            ),
        ),
        View(
            "Drafted and accepted tokens",
            "cps",
            "What is drafted and not accepted was computed for nothing.",
            (
                Query(rate(speculation.DRAFTED_TOKENS, "source"), "drafted: {{source}}"),
                Query(rate(speculation.ACCEPTED_TOKENS, "source"), "accepted: {{source}}"),
            ),
        ),
        View(
            "Acceptance by position",
            "percentunit",
            "Share of the drafted tokens at a place in the draft that were accepted.",
            (
                Query(
                    rate(speculation.ACCEPTED_TOKENS, "position")
                    + f" / ({rate(speculation.DRAFTED_TOKENS, 'position')} > 0)",
                    "{{position}}",
                ),
            ),
        ),
        View(
            "Acceptance by proposer and language",
            "percentunit",
            "Share of the drafted tokens that were accepted, and of the first of each draft.",
            (
                Query(
                    rate(speculation.ACCEPTED_TOKENS, "source", "language")
                    + f" / ({rate(speculation.DRAFTED_TOKENS, 'source', 'language')} > 0)",
                    "{{source}}, {{language}}",
                ),
                Query(
                    rate(speculation.ACCEPTED_TOKENS, "source", "language", where=_FIRST)
                    + " / ("
                    + rate(speculation.DRAFTED_TOKENS, "source", "language", where=_FIRST)
                    + " > 0)",
                    "{{source}}, {{language}}: first",
                ),
            ),
        ),
        View(
            "Engine time while decoding",
            "s",
            "Seconds a second: in the model, by what its steps computed, and in drafting.",
            (
                Query(rate(speculation.DECODE_SECONDS, "kind"), "{{kind}}"),
                Query(rate(speculation.DRAFT_SECONDS), "draft"),
            ),
            Kind.STACK,
        ),
        View(
            "Pools by language",
            "cps",
            "Requests to models with neural drafters: to their language's pool, or why not.",
            (Query(rate(gateway.ROUTED, "reason"), "{{reason}}"),),
            Kind.STACK,
        ),
        View(
            "Without drafts",
            "cps",
            "Sampling features, missing drafters and faults, which were not drafted for.",
            (Query(rate(speculation.UNDRAFTED, "reason"), "{{reason}}"),),
            Kind.STACK,
        ),
        View(
            "Seconds of a step",
            "s",
            "Of the model and the sampler, for the whole batch, by what the step computed.",
            (
                Query(
                    rate(speculation.DECODE_SECONDS, "kind")
                    + f" / ({rate(speculation.DECODE_STEPS, 'kind')} > 0)",
                    "{{kind}}",
                ),
            ),
        ),
        View(
            "What the controller decides",
            "cps",
            "After each step, for the next: to draft or why not.",
            (Query(rate(speculation.DRAFT_DECISIONS, "decision"), "{{decision}}"),),
            Kind.STACK,
        ),
    ),
)
