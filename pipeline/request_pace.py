"""Measures one request as it passes through the gateway."""

import time

from headstart.cluster.stream import Stream
from headstart.monitoring.labels import Outcome, Route
from headstart.monitoring.metrics import Metrics, RequestMeter
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark, StageClock, stage_after

__all__ = ["RequestPace"]


class RequestPace:
    """One request's marks and metrics, from arrival to the end of its stream.

    A `StreamListener` of the request's stream and the `Pace` of its response.

    Args:
        metrics: Where the request is counted.
        route: What it asks for.
        arrived: When it arrived, in seconds on the monotonic clock.
    """

    def __init__(self, metrics: Metrics, route: Route, arrived: float) -> None:
        self._metrics = metrics
        self._meter: RequestMeter = metrics.request(route)
        self._stream: Stream | None = None
        self._clock = StageClock()
        self._clock.set(Mark.ARRIVED, arrived)
        self._last_write: float | None = None

    def asked_for(self, model: str) -> None:
        """Name the configured model that the request is for."""
        self._meter.asked_for(model)

    def mark(self, mark: Mark) -> None:
        """Note that the request has come this far."""
        self._clock.set(mark, time.monotonic())
        self._meter.moved_to(stage_after(mark))

    def follow(self, stream: Stream) -> None:
        """Go on with a stream's own clock, which the replica's marks are set on."""
        stream.clock.take(self._clock)
        self._clock = stream.clock
        self._stream = stream
        stream.listen(self)

    def appended(self) -> None:
        """As a `StreamListener`: the log has grown."""

    def marked(self, mark: Mark, _at: float) -> None:
        """As a `StreamListener`: the replica has set a mark."""
        self._meter.moved_to(stage_after(mark))

    def ended(self, _end: StreamEnd) -> None:
        """As a `StreamListener`: the log is closed."""

    def wrote(self, num_tokens: int, at: float) -> None:
        """As a `Pace`: frames were handed to the connection."""
        self._clock.set(Mark.SENT, at)
        if not num_tokens:
            return
        arrived = self._clock.get(Mark.ARRIVED)
        if self._last_write is None and arrived is not None:
            self._meter.first_frame(at - arrived, num_tokens)
        elif self._last_write is not None:
            self._meter.frame(at - self._last_write, num_tokens)
        self._last_write = at

    def projected(self, num_frames: int, seconds: float) -> None:
        """As a `Pace`: frames were turned into events."""
        for _ in range(num_frames):
            self._metrics.frame_projected(seconds / num_frames)

    def refused(self, outcome: Outcome) -> None:
        """Count the request out: it never had a stream."""
        self._meter.close(outcome, self._clock)

    def left(self, outcome: Outcome | None) -> None:
        """Its reader is done; count the request out once its stream has ended too.

        Args:
            outcome: How it went for the reader; None leaves it to how the stream ends.
        """
        stream = self._stream
        assert stream is not None
        stream.on_end(
            lambda: self._meter.close(outcome or _outcome(stream), self._clock, stream.end)
        )


def _outcome(stream: Stream) -> Outcome:
    header, end = stream.log.header, stream.end
    if end is not None and end.failure is not None:
        return Outcome.of(end.failure.to_error())
    if end is not None and end.is_aborted:
        return Outcome.CANCELLED
    if header is None or header.status >= 500:
        return Outcome.ENGINE_ERROR
    return Outcome.CLIENT_ERROR if header.status >= 400 else Outcome.COMPLETED
