"""One generation request from arrival to last byte.

parse → admit → route → hand to the replica → carry its log to the client. Each step sets its mark
on the request's clock; the replica's marks arrive with the log.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headstart.cluster.engine import EngineRequest
from headstart.cluster.replica_pool import ReplicaPool
from headstart.cluster.stream import Stream, StreamTable
from headstart.configs.settings import GatewaySettings
from headstart.monitoring.labels import Outcome, Route
from headstart.monitoring.metrics import Metrics, RequestMeter
from headstart.pipeline.errors import from_failure
from headstart.pipeline.inbound import Inbound, read
from headstart.pipeline.sse import send_body, send_events
from headstart.pipeline.timing import timing_of
from headstart.stages.errors import EngineUnavailable, HeadstartError, NotFound
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark, StageClock

if TYPE_CHECKING:
    from headstart.cluster.remote_engine import RemoteEngine

__all__ = ["Answering", "LogResponse", "new_stream_id"]


def new_stream_id() -> str:
    """Return an id that cannot be guessed."""
    return secrets.token_urlsafe(16)


class Answering:
    """Takes generation requests to replicas and their answers back.

    Args:
        pool: The replicas.
        streams: Where mirrored answers are kept.
        metrics: Told of every request.
        settings: Limits.
    """

    def __init__(
        self,
        pool: ReplicaPool,
        streams: StreamTable,
        metrics: Metrics,
        settings: GatewaySettings,
    ) -> None:
        self._pool = pool
        self._streams = streams
        self._metrics = metrics
        self._settings = settings
        self._links: dict[str, RemoteEngine] = {}
        """Who makes each live answer."""

    async def answer(self, request: Request, route: Route) -> Response:
        """Begin to serve a request; the response carries the rest.

        Raises:
            HeadstartError: It is refused.
        """
        clock = StageClock()
        clock.set(Mark.ARRIVED, time.monotonic())
        meter = _Meter(self._metrics, route, clock)
        try:
            return await self._begin(request, meter)
        except HeadstartError as error:
            meter.close(Outcome.of(error))
            raise
        except BaseException:
            meter.close(Outcome.CANCELLED)
            raise

    async def abort(self, stream: Stream) -> None:
        """Stop an answer; finished ones are left as they are."""
        if (link := self._links.get(stream.id)) is not None:
            await link.abort(stream.id)

    def uncertainty_s(self, stream: Stream) -> float:
        """Largest error of a live answer's clock, in seconds; 0 once its replica is unknown."""
        link = self._links.get(stream.id)
        return link.clock.uncertainty_s if link is not None else 0.0

    async def _begin(self, request: Request, meter: "_Meter") -> Response:
        inbound = await read(request, self._settings)
        model = self._model(inbound)
        meter.asked_for(model)
        meter.mark(Mark.PARSED)
        self._admit()
        meter.mark(Mark.ADMITTED)
        link = self._pool.choose(model)
        engine_request = EngineRequest(
            new_stream_id(), request.method, request.url.path, inbound.headers, inbound.body
        )
        meter.mark(Mark.ROUTED)
        stream = link.serve(engine_request, is_detached=inbound.options.detach)
        meter.follow(stream)
        self._links[stream.id] = link
        stream.on_end(partial(self._links.__delitem__, stream.id))
        timing = None
        if inbound.options.timing:
            timing = partial(timing_of, stream, link.clock.uncertainty_s)
        return LogResponse(
            stream,
            after=0,
            heartbeat_s=self._settings.heartbeat_s,
            has_ids=inbound.options.detach,
            meter=meter,
            timing=timing,
            abandon=None if inbound.options.detach else self.abort,
        )

    def _model(self, inbound: Inbound) -> str:
        models = self._pool.models
        if inbound.model is None:
            return models[0]
        if inbound.model not in models:
            raise NotFound(
                f"The model `{inbound.model}` does not exist. Valid aliases: {', '.join(models)}.",
                param="model",
            )
        return inbound.model

    def _admit(self) -> None:
        if len(self._links) >= self._settings.max_streams:
            raise EngineUnavailable(
                f"all {self._settings.max_streams} places for answers are taken; try again"
            )


class _Meter:
    """One request's marks and metrics, from arrival to the last write of its first reader."""

    def __init__(self, metrics: Metrics, route: Route, clock: StageClock) -> None:
        self._metrics = metrics
        self._meter: RequestMeter = metrics.request(route)
        self._stream: Stream | None = None
        self._clock = clock
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


class _Unmeasured:
    """Pace of a reader that resumes: the request was measured when it was first answered."""

    def wrote(self, num_tokens: int, at: float) -> None:
        pass

    def projected(self, num_frames: int, seconds: float) -> None:
        pass


class LogResponse(Response):
    """Carries a stream's log to one reader.

    Args:
        stream: What to carry.
        after: Cursor to begin at.
        heartbeat_s: Silence after which a comment is sent.
        has_ids: Whether events carry cursors.
        meter: Told how the request went; None for a reader that resumes.
        timing: Makes the timing object, if it was asked for.
        abandon: Called with the stream when the reader hangs up; None lets the answer go on.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        after: int,
        heartbeat_s: float,
        has_ids: bool,
        meter: _Meter | None = None,
        timing: Callable[[], dict[str, Any]] | None = None,
        abandon: Callable[[Stream], Any] | None = None,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._after = after
        self._heartbeat_s = heartbeat_s
        self._has_ids = has_ids
        self._meter = meter
        self._timing = timing
        self._abandon = abandon

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome = Outcome.CANCELLED
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_client_gone(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                outcome = self._outcome()
                sending.result()
        except HeadstartError as error:
            outcome = Outcome.of(error)
            raise
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            if outcome is Outcome.CANCELLED and self._abandon is not None:
                await self._abandon(self._stream)
            if self._meter is not None:
                self._meter.close(outcome)

    async def _send(self, send: Send) -> None:
        stream = self._stream
        pace = self._meter or _Unmeasured()
        await stream.grown(0)
        header = stream.log.header
        if header is not None and header.is_event_stream:
            await send_events(
                stream,
                send,
                after=self._after,
                heartbeat_s=self._heartbeat_s,
                pace=pace,
                has_ids=self._has_ids,
                timing=self._timing,
            )
        else:
            await stream.finished()
            await send_body(stream, send, pace=pace, timing=self._timing)

    def _outcome(self) -> Outcome:
        header, end = self._stream.log.header, self._stream.end
        if end is not None and end.failure is not None:
            return Outcome.of(from_failure(end.failure))
        if header is not None and 400 <= header.status < 500:
            return Outcome.CLIENT_ERROR
        if header is None or header.status >= 500:
            return Outcome.ENGINE_ERROR
        return Outcome.COMPLETED


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
