"""Measures one request as it passes through the gateway."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from headstart.cluster.stream import Stream
from headstart.monitoring.labels import Outcome, Route
from headstart.monitoring.metrics import Metrics, RequestMeter
from headstart.stages.errors import HeadstartError
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark, StageClock, stage_after

__all__ = ["JoinedPace", "RequestPace"]


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
        self.num_tokens = 0
        """Written so far."""
        self.has_left = False
        """Whether the reader that asked is done."""
        self._num_joined = 0
        self._is_closed = False
        self._outcome: Outcome | None = None

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
        self.num_tokens += num_tokens
        arrived = self._clock.get(Mark.ARRIVED)
        if self._last_write is None and arrived is not None:
            self._meter.first_frame(at - arrived, num_tokens)
        elif self._last_write is not None:
            self._meter.frame(at - self._last_write, num_tokens)
        self._last_write = at

    def acknowledged(self, delivered_at: float, rendered_at: float | None) -> None:
        """The reader has said when it received something, and perhaps when it showed it.

        Args:
            delivered_at: On this clock, clamped to what is possible.
            rendered_at: Likewise.
        """
        self._clock.set(Mark.DELIVERED, delivered_at)
        if rendered_at is not None:
            self._clock.set(Mark.RENDERED, rendered_at)

    def projected(self, num_frames: int, seconds: float) -> None:
        """As a `Pace`: frames were turned into events."""
        for _ in range(num_frames):
            self._metrics.frame_projected(seconds / num_frames)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the request out if the block fails: then it never has a stream."""
        try:
            yield
        except HeadstartError as error:
            self.refused(Outcome.of(error))
            raise
        except Exception:
            self.refused(Outcome.ENGINE_ERROR)
            raise
        except asyncio.CancelledError:
            self.refused(Outcome.CANCELLED)
            raise

    def refused(self, outcome: Outcome) -> None:
        """Count the request out: it never had a stream."""
        self._is_closed = True
        self._meter.close(outcome, self._clock)

    def join(self, after: int) -> "JoinedPace | None":
        """Let another reader go on with the account, once the one that asked has left.

        Args:
            after: Cursor from which it reads.

        Returns:
            None where the request is counted out already.
        """
        if self._is_closed or self._stream is None:
            return None
        self._num_joined += 1
        frames = self._stream.log.frames(0, after) if after else ()
        return JoinedPace(self, sum(len(frame.tokens) for at, frame in frames if at <= after))

    def left(self, outcome: Outcome | None) -> None:
        """Its reader is done; count the request out once its stream and who joined are done too.

        Args:
            outcome: How it went for the reader; None leaves it to how the stream ends.
        """
        assert self._stream is not None
        self.has_left, self._outcome = True, outcome
        self._stream.on_end(self._settle)

    def parted(self) -> None:
        """One that had joined is done."""
        assert self._stream is not None
        self._num_joined -= 1
        self._stream.on_end(self._settle)

    def _settle(self) -> None:
        stream = self._stream
        assert stream is not None
        if self.has_left and not self._num_joined and not self._is_closed:
            self._is_closed = True
            self._meter.close(self._outcome or _outcome(stream), self._clock, stream.end)


class JoinedPace:
    """What a reader adds to the account of a request that another one made.

    It counts from the moment on which that one has left, as when an answer climbs from its event
    stream to datagrams: tokens once, and marks of one reader at a time.

    Args:
        pace: The request's account.
        num_tokens: In the log before where this reader begins.
    """

    def __init__(self, pace: RequestPace, num_tokens: int) -> None:
        self._pace = pace
        self._num_tokens = num_tokens

    def wrote(self, num_tokens: int, at: float) -> None:
        """As a `Pace`: frames were handed to the connection."""
        self._num_tokens += num_tokens
        if self._pace.has_left:
            self._pace.wrote(max(0, self._num_tokens - self._pace.num_tokens), at)

    def acknowledged(self, delivered_at: float, rendered_at: float | None) -> None:
        """As `RequestPace.acknowledged`."""
        if self._pace.has_left:
            self._pace.acknowledged(delivered_at, rendered_at)

    def left(self, outcome: Outcome | None) -> None:
        """This reader is done, however it went: the request's outcome is not its own."""
        self._pace.parted()


def _outcome(stream: Stream) -> Outcome:
    header, end = stream.log.header, stream.end
    if end is not None and end.failure is not None:
        return Outcome.of(end.failure.to_error())
    if end is not None and end.is_aborted:
        return Outcome.CANCELLED
    if header is None or header.status >= 500:
        return Outcome.ENGINE_ERROR
    return Outcome.CLIENT_ERROR if header.status >= 400 else Outcome.COMPLETED
