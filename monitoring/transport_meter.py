"""The calls that feed the metrics of readers over QUIC."""

from headstart.monitoring.labels import (
    AckOutcome,
    CarrierKind,
    Fallback,
    Handshake,
    PacketOutcome,
    ResumeOutcome,
    Way,
)
from headstart.monitoring.series import TransportSeries
from headstart.stages.datagram_events import Cause
from headstart.stages.render_gaps import Gap

__all__ = ["TransportMeter"]


class TransportMeter:
    """What readers over QUIC tell the metrics; `Metrics.transport`."""

    def __init__(self, series: TransportSeries) -> None:
        self._series = series

    def connected(self, kind: CarrierKind) -> None:
        """A session has been opened."""
        self._series.connections[kind].inc()

    def disconnected(self, kind: CarrierKind) -> None:
        """It is over."""
        self._series.connections[kind].dec()

    def carried(self, *, replaced: int, oversize: int, confirmed: int, lost: int) -> None:
        """What became of so many more datagrams that did not leave, and packets that did."""
        self._series.replaced.inc(replaced)
        self._series.oversize.inc(oversize)
        self._series.packets[PacketOutcome.CONFIRMED].inc(confirmed)
        self._series.packets[PacketOutcome.LOST].inc(lost)

    def held_up(self, outcome: Handshake, count: int) -> None:
        """So many more connections were not simply let in."""
        self._series.handshakes[outcome].inc(count)

    def sent(self, cause: Cause, size_bytes: int, fresh_bytes: int) -> None:
        """A datagram was handed to the carrier."""
        self._series.datagrams[cause].inc()
        self._series.bytes.inc(size_bytes)
        self._series.fresh_bytes.inc(fresh_bytes)

    def acked(self, outcome: AckOutcome) -> None:
        """A reader has sent a datagram."""
        self._series.acks[outcome].inc()

    def shown(self, gap: Gap) -> None:
        """A reader shows more than before."""
        self._series.render_gap.observe(gap.seconds)
        if gap.stall is not None:
            self._series.stalls[gap.stall].inc()

    def caught_up(self) -> None:
        """A stretch of a log goes over a reliable stream."""
        self._series.catch_ups.inc()

    def fell_back(self, reason: Fallback) -> None:
        """A reader is served by a reliable stream from now on."""
        self._series.fallbacks[reason].inc()

    def resumed(self, way: Way, outcome: ResumeOutcome) -> None:
        """A reader has come for an answer that was asked for elsewhere."""
        self._series.resumes[way, outcome].inc()

    def finished(self, rtt_s: float) -> None:
        """A reader has everything."""
        self._series.rtt.observe(rtt_s)
