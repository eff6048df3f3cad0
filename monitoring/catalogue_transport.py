"""Answers over QUIC: datagrams, what readers acknowledge, and what they saw."""

from headstart.monitoring.labels import (
    AckOutcome,
    CarrierKind,
    Fallback,
    Handshake,
    Label,
    PacketOutcome,
    ResumeOutcome,
    Way,
)
from headstart.monitoring.metric import GAP_S, Metric
from headstart.stages.datagram_events import Cause
from headstart.stages.render_gaps import StallCause

_CARRIER = Label("carrier", tuple(CarrierKind))
_SEND_CAUSE = Label("cause", tuple(Cause))
_ACK = Label("outcome", tuple(AckOutcome))
_STALL = Label("cause", tuple(StallCause))
_FALLBACK = Label("reason", tuple(Fallback))
_RESUME = Label("outcome", tuple(ResumeOutcome))
_WAY = Label("carrier", tuple(Way))
_PACKET = Label("outcome", tuple(PacketOutcome))
_HANDSHAKE = Label("outcome", tuple(Handshake))

_RTT_S = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2)

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
DATAGRAMS_OVERSIZE = Metric(
    "headstart_datagrams_oversize_total",
    "counter",
    "Datagrams that no packet of their connection could hold: a fault of the gateway's.",
    "sum(increase(headstart_datagrams_oversize_total[1h]))",
)
QUIC_PACKETS = Metric(
    "headstart_quic_packets_total",
    "counter",
    "Packets to readers by what QUIC says became of them; datagrams, streams and handshakes share "
    "them.",
    "sum by (outcome) (rate(headstart_quic_packets_total[5m]))",
    (_PACKET,),
)
QUIC_HANDSHAKES = Metric(
    "headstart_quic_handshakes_total",
    "counter",
    "Connections that had to prove their address first, and those that there was no room for.",
    "sum by (outcome) (rate(headstart_quic_handshakes_total[5m]))",
    (_HANDSHAKE,),
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
    buckets=GAP_S,
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
    "Readers that came for an answer asked for elsewhere, by how they read it and what became of "
    "them. Event streams after datagrams: UDP has died on the way.",
    "sum by (carrier, outcome) (rate(headstart_resumes_total[5m]))",
    (_WAY, _RESUME),
)

METRICS = (
    QUIC_CONNECTIONS,
    DATAGRAMS,
    DATAGRAM_BYTES,
    DATAGRAM_FRESH_BYTES,
    DATAGRAMS_REPLACED,
    DATAGRAMS_OVERSIZE,
    QUIC_PACKETS,
    QUIC_HANDSHAKES,
    ACKS,
    READER_RTT,
    RENDER_GAP,
    STALLS,
    CATCH_UPS,
    FALLBACKS,
    RESUMES,
)
