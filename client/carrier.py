"""The seam between a session and what moves its bytes: datagrams, and streams beside them.

A carrier knows nothing of answers, a session nothing of QUIC. `quic_carrier` is one carrier over
aioquic; every carrier passes `tests/contract/test_carriers.py`.
"""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Carrier", "CarrierEvents", "CarrierStats"]


@dataclass(slots=True)
class CarrierStats:
    """What a carrier has done and believes, read at any time."""

    sent: int = 0
    """Datagrams that have left."""
    received: int = 0
    replaced: int = 0
    """Datagrams that never left because a newer one of their stream took their place."""
    oversize: int = 0
    """Datagrams that were refused because no packet could hold them."""
    packets_lost: int = 0
    """By the carrier's own account; other than datagrams are among them."""
    packets_confirmed: int = 0
    """By the peer's transport, whatever was in them."""
    srtt_s: float = 0.1
    """Smoothed round trip, in seconds; before the first sample an assumption."""


class CarrierEvents(Protocol):
    """Told of what happens on a carrier, in order, on the event loop."""

    def datagram(self, data: bytes) -> None:
        """The peer has sent a datagram."""

    def stream_data(self, stream_id: int, data: bytes, is_end: bool) -> None:
        """The peer has sent bytes on a reliable stream; `data` may be empty at its end."""

    def stream_reset(self, stream_id: int) -> None:
        """The peer will send no more on a stream, or wants no more."""

    def ready(self) -> None:
        """Datagrams are taken again, after `send_latest` said that they are not."""

    def progressed(self) -> None:
        """A packet came in: streams may have room again."""

    def path_changed(self) -> None:
        """The peer, or this end, is at another address: the path is another one."""

    def established(self) -> None:
        """The peer is who began the handshake: what comes from now on is no replay."""

    def broken(self, reason: str) -> None:
        """No more datagrams on this path: `max_payload` is 0 from now on. Streams still work."""

    def closed(self, reason: str) -> None:
        """The connection is gone; nothing more happens."""


class Carrier(Protocol):
    """One connection to one peer. Belongs to one event loop."""

    @property
    def is_established(self) -> bool:
        """Whether the handshake is over; what comes earlier may be a replay."""

    def max_payload(self) -> int:
        """Most bytes of a datagram, now; 0 where the peer takes none or the path is broken."""

    def send_latest(self, stream: int, data: bytes) -> bool:
        """Send a datagram, now or when the path takes it; a later one of its stream replaces it.

        Args:
            stream: Whose datagram it is; at most one of each waits.

        Returns:
            Whether another would leave at once. If not, `ready` will say when. Inside of `ready`
            that is open: what waits leaves after it, in turn.

        Raises:
            ProtocolViolation: It is longer than `max_payload`. Nothing is sent.
        """

    def open_stream(self, *, is_bidirectional: bool) -> int:
        """Open a reliable stream and return its number."""

    def write(self, stream_id: int, data: bytes, *, is_end: bool = False) -> None:
        """Append to a reliable stream; unknown and closed ones swallow it."""

    def backlog(self, stream_id: int) -> int:
        """Bytes written to a stream that the peer has not confirmed."""

    def reset_stream(self, stream_id: int) -> None:
        """Stop sending on a stream, and stop the peer."""

    def keep_alive(self, now: float) -> None:
        """Ask the peer for a sign of life if the connection is on its way to end for silence.

        Args:
            now: Time of the event loop.
        """

    def stats(self) -> CarrierStats:
        """Totals so far."""

    def close(self, code: int = 0, reason: str = "") -> None:
        """End the connection; the peer is told."""
