"""Measures one request as it passes through the gateway."""

import time

from headstart.cluster.stream import Stream
from headstart.monitoring.labels import Outcome, Route
from headstart.monitoring.metrics import Metrics, RequestMeter
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark, StageClock

__all__ = ["RequestPace"]


class RequestPace:
    """One request's marks and metrics, from arrival to the last write of its first reader.

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
        self._meter.asked_for(model)

    def mark(self, mark: Mark) -> None:
        self._clock.set(mark, time.monotonic())
        self._meter.moved_to(self._clock.current)

    def follow(self, stream: Stream) -> None:
        """Go on with a stream's own clock, which the replica's marks are set on."""
        stream.clock.take(self._clock)
        self._clock = stream.clock
        self._stream = stream
        stream.listen(self)

    # StreamListener
    def appended(self) -> None:
        pass

    def marked(self, _mark: Mark, _at: float) -> None:
        self._meter.moved_to(self._clock.current)

    def ended(self, _end: StreamEnd) -> None:
        pass

    # Pace
    def wrote(self, num_tokens: int, at: float) -> None:
        if not num_tokens:
            return
        arrived = self._clock.get(Mark.ARRIVED)
        if self._last_write is None and arrived is not None:
            self._meter.first_frame(at - arrived, num_tokens)
        elif self._last_write is not None:
            self._meter.frame(at - self._last_write, num_tokens)
        self._last_write = at

    def projected(self, num_frames: int, seconds: float) -> None:
        for _ in range(num_frames):
            self._metrics.frame_projected(seconds / num_frames)

    def close(self, outcome: Outcome) -> None:
        end = self._stream.end if self._stream is not None else None
        if self._stream is not None:
            self._stream.unlisten(self)
        self._meter.close(outcome, self._clock, end)
