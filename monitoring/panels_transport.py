"""What readers over QUIC see, and what it costs."""

from headstart.monitoring import catalogue_transport as transport
from headstart.monitoring.promql import rate, series, total
from headstart.monitoring.views import Kind, Query, Row, View, quantiles

__all__ = ["TRANSPORT"]

TRANSPORT = Row(
    "On the way to the screen",
    (
        View(
            "Render gap",
            "s",
            "What readers over QUIC see as pauses; they report it themselves.",
            quantiles(transport.RENDER_GAP, 0.5, 0.95, 0.99),
        ),
        View(
            "Stalls by cause",
            "cps",
            "generation: the engine paused. network: text was there and had not arrived. client: "
            "it had arrived and was not shown.",
            (Query(rate(transport.STALLS, "cause"), "{{cause}}"),),
            Kind.STACK,
        ),
        View(
            "Datagrams sent",
            "cps",
            "Much beside new: losses, or answers whose ends nobody confirms.",
            (
                Query(rate(transport.DATAGRAMS, "cause"), "{{cause}}"),
                Query(rate(transport.DATAGRAMS_REPLACED), "replaced before they left"),
            ),
        ),
        View(
            "Payload per fresh byte",
            "short",
            "What every token costs on the wire, repeats included; 1 is about no redundancy.",
            (
                Query(
                    rate(transport.DATAGRAM_BYTES)
                    + f" / ({rate(transport.DATAGRAM_FRESH_BYTES)} > 0)",
                    "payload / fresh",
                ),
            ),
        ),
        View(
            "Acknowledgements",
            "cps",
            "refused, limited or malformed above zero: a client of another make, or an attack.",
            (Query(rate(transport.ACKS, "outcome"), "{{outcome}}"),),
            Kind.STACK,
        ),
        View(
            "Round trip to readers",
            "s",
            "Of finished answers.",
            quantiles(transport.READER_RTT, 0.5, 0.95),
        ),
        View(
            "QUIC connections",
            "short",
            "Sessions that are open now.",
            (Query(total(series(transport.QUIC_CONNECTIONS), "carrier"), "{{carrier}}"),),
            Kind.STACK,
        ),
        View(
            "Detours",
            "cps",
            "Reliable streams in place of datagrams, and readers that come for an answer.",
            (
                Query(rate(transport.CATCH_UPS), "catch-up"),
                Query(rate(transport.FALLBACKS, "reason"), "fallback: {{reason}}"),
                Query(
                    rate(transport.RESUMES, "carrier", "outcome"),
                    "resume over {{carrier}}: {{outcome}}",
                ),
            ),
        ),
        View(
            "Packets confirmed and lost",
            "cps",
            "lost: what QUIC gave up on. too long: a fault of the gateway's.",
            (
                Query(rate(transport.QUIC_PACKETS, "outcome"), "{{outcome}}"),
                Query(rate(transport.DATAGRAMS_OVERSIZE), "too long for a packet"),
            ),
        ),
        View(
            "Handshakes held up",
            "cps",
            "Many at once have to prove their addresses; beyond `quic.max_connections` none is let "
            "in.",
            (Query(rate(transport.QUIC_HANDSHAKES, "outcome"), "{{outcome}}"),),
            Kind.STACK,
        ),
    ),
)
