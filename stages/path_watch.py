"""Tells a path that loses our datagrams alone from one that carries nothing at all.

A blackout silences everything, and is waited out. But something on the way, or the peer itself, may
drop datagrams, or the acknowledgements that come back in them, and carry the rest: then the
transport goes on confirming packets while no datagram makes its round trip, and only streams help.
"""

__all__ = ["PathWatch"]

_PATIENCE_S = 3.0
"""Three of the sender's heartbeats."""
_MIN_SENT = 16
"""Datagrams without an answer: half of them lost each way leaves one in a hundred so many."""
_MIN_CONFIRMED = 8
"""Half of those: the path carries the rest well enough."""
_IN_FLIGHT_S = 1.0
"""What the transport confirms so soon was sent before the datagrams fell silent."""


class PathWatch:
    """One stream's datagrams, beside the packets of the whole connection.

    Packets are counted by the transport: a running total of those that the peer has confirmed.
    """

    def __init__(self) -> None:
        self._newest = 0
        self._start_over()

    def _start_over(self) -> None:
        self._silent_since: float | None = None
        self._num_sent = 0
        self._num_confirmed: int | None = None

    def sent(self, num_confirmed: int, now: float) -> None:
        """A datagram has left."""
        self._num_sent += 1
        if self._silent_since is None:
            self._silent_since = now
        if self._num_confirmed is None and now >= self._silent_since + _IN_FLIGHT_S:
            self._num_confirmed = num_confirmed

    def acked(self, newest: int) -> None:
        """The reader's acknowledgement names the newest datagram that it has.

        One that names no newer than before says nothing of datagrams: it may speak of bytes that
        came over a stream.
        """
        if newest > self._newest:
            self._newest = newest
            self._start_over()

    def has_failed(self, num_confirmed: int, now: float) -> bool:
        """Whether the path carries packets, and not these datagrams."""
        if self._silent_since is None or self._num_confirmed is None:
            return False
        return (
            now >= self._silent_since + _PATIENCE_S
            and self._num_sent >= _MIN_SENT
            and num_confirmed >= self._num_confirmed + _MIN_CONFIRMED
        )
