"""One generation request from arrival to last byte.

parse → admit → route → hand to the replica → carry its log to the client. Each step sets its mark
on the request's clock; the replica's marks arrive with the log.
"""

import time
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from headstart.cluster.engine import EngineRequest
from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.replica_pool import ReplicaPool
from headstart.cluster.stream import Stream, StreamTable
from headstart.configs.settings import GatewaySettings
from headstart.monitoring.labels import Route
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.access import Access, Caller
from headstart.pipeline.errors import shortened
from headstart.pipeline.guard import caller_of
from headstart.pipeline.inbound import Inbound, read
from headstart.pipeline.input_language import InputLanguages
from headstart.pipeline.log_response import LogResponse
from headstart.pipeline.request_pace import JoinedPace, RequestPace
from headstart.pipeline.timing import timing_of
from headstart.stages.errors import (
    EngineUnavailable,
    Forbidden,
    ModelNotFound,
    Overloaded,
)
from headstart.stages.stage_clock import Mark

__all__ = ["Answering"]


class Answering:
    """Takes generation requests to replicas and their answers back.

    Args:
        pool: The replicas.
        streams: Where mirrored answers are kept.
        metrics: Told of every request.
        settings: Limits.
        access: Limits of each key.
        languages: Tells what prompts are in.
    """

    def __init__(
        self,
        pool: ReplicaPool,
        streams: StreamTable,
        metrics: Metrics,
        settings: GatewaySettings,
        access: Access,
        languages: InputLanguages,
    ) -> None:
        self.languages = languages
        self._pool = pool
        self._streams = streams
        self._metrics = metrics
        self._settings = settings
        self._access = access
        self._paces: dict[Stream, RequestPace] = {}
        """Accounts of the streams that are live."""

    @property
    def is_draining(self) -> bool:
        """Whether the gateway is stopping, and begins no more answers."""
        return self._pool.is_draining

    def join(self, stream: Stream, after: int) -> JoinedPace | None:
        """Have a reader from a cursor on take part in the account of a live stream's request."""
        pace = self._paces.get(stream)
        return None if pace is None else pace.join(after)

    async def answer(self, request: Request, route: Route) -> Response:
        """Begin to serve a request; the response carries the rest.

        Raises:
            HeadstartError: It is refused.
        """
        pace = self.paced(route)
        with pace.counted():
            caller = caller_of(request)
            # Whoever would be refused anyway shall not have a body kept for it first.
            self._check_places()
            self._access.check(caller)
            inbound = await read(
                request, self._settings, self._access.salting(caller), self.languages
            )
            path = request.scope["path"]  # of the URL, which is made of `Host`, it may be another
            stream = self.begin(caller, inbound, request.method, path, pace)
        return self.response(stream, inbound, pace)

    def paced(self, route: Route) -> RequestPace:
        """Count a request in, as it arrives."""
        return RequestPace(self._metrics, route, time.monotonic())

    def begin(
        self,
        caller: Caller,
        inbound: Inbound,
        method: str,
        path: str,
        pace: RequestPace,
        stick_to: RemoteEngine | None = None,
    ) -> Stream:
        """Have a replica begin an answer.

        Args:
            stick_to: The replica that should answer, if it can.

        Raises:
            HeadstartError: The request is refused.
        """
        name = self.name_for(inbound.model, caller)
        model = self._pool.served[name]
        pace.asked_for(model)
        pace.mark(Mark.PARSED)
        self._check_room()
        with self._access.admit(caller) as lease:
            pace.mark(Mark.ADMITTED)
            link = self._pool.stay(model, stick_to, inbound.wanted)
            engine_request = EngineRequest(
                self._access.stream_id(caller),
                method,
                path,
                inbound.headers,
                inbound.body,
                caller.key_id,
            )
            pace.mark(Mark.ROUTED)
            stream = self._pool.continuity.serve(
                link, model, engine_request, is_detached=inbound.options.detach
            )
            lease.last_as_long_as(stream)
        pace.follow(stream)
        self._paces[stream] = pace
        stream.on_end(partial(self._paces.__delitem__, stream))
        return stream

    def response(self, stream: Stream, inbound: Inbound, pace: RequestPace) -> LogResponse:
        """Return what carries an answer to whoever asked for it."""
        timing = None
        if inbound.options.timing:
            timing = partial(timing_of, stream)
        return LogResponse(
            stream,
            after=0,
            heartbeat_s=self._settings.heartbeat_s,
            has_ids=inbound.options.detach,
            is_stream=inbound.is_stream,
            pace=pace,
            timing=timing,
            abandon=self.abort,
            is_detached=inbound.options.detach,
        )

    async def abort(self, stream: Stream) -> None:
        """Stop an answer; finished ones are left as they are."""
        await self._pool.continuity.abort(stream)

    def stream_id(self, caller: Caller) -> str:
        """Return the id of a new stream, which only `caller` can use."""
        return self._access.stream_id(caller)

    def configured(self, name: str) -> str:
        """Return the configured model behind a served name."""
        return self._pool.served[name]

    def name_for(self, model: str | None, caller: Caller) -> str:
        """Return the served name that a request is for, a model's or an adapter's.

        Raises:
            NotFound: There is no such model.
            Forbidden: The caller may not use it, or named none and may use none.
        """
        served = self._pool.served
        if not model:
            # The engine then takes its own model, never an adapter.
            if (own := next(filter(caller.may_use, self._pool.models), None)) is None:
                raise Forbidden("the API key is for no model as such: name one", param="model")
            return own
        if model not in served:
            usable = ", ".join(filter(caller.may_use, served))
            raise ModelNotFound(
                f"The model `{shortened(model)}` does not exist. Valid aliases: {usable}.",
                param="model",
            )
        if not caller.may_use(model):
            raise Forbidden(f"the API key may not use the model `{model}`", param="model")
        return model

    def _check_places(self) -> None:
        if self.is_draining:
            raise EngineUnavailable("this gateway is stopping; try again")
        if self._pool.continuity.num_live >= self._settings.max_streams:
            raise Overloaded(
                f"all {self._settings.max_streams} places for answers are taken; try again"
            )

    def _check_room(self) -> None:
        self._check_places()
        if self._streams.is_full:
            raise Overloaded("the answers being made fill the memory for logs; try again")
