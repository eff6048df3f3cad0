"""The gateway's routes. What a request goes through is in `headstart.pipeline.answering`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from headstart.cluster.engine import EngineRequest
from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.replica_pool import ReplicaPool
from headstart.cluster.stream import Stream, StreamTable
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import GatewaySettings, LiveSettings
from headstart.monitoring.labels import ResumeOutcome, Way
from headstart.monitoring.labels import Route as RouteLabel
from headstart.monitoring.metrics import CONTENT_TYPE, Metrics
from headstart.pipeline import page
from headstart.pipeline.access import Access, Caller, new_stream_id
from headstart.pipeline.answering import Answering
from headstart.pipeline.errors import HANDLERS, error_response, shortened
from headstart.pipeline.guard import Guard, caller_of
from headstart.pipeline.input_language import InputLanguages
from headstart.pipeline.live_routes import LiveRoutes
from headstart.pipeline.live_services import LiveReplicas, LiveServices, LiveShares
from headstart.pipeline.live_sessions import LiveSessions
from headstart.pipeline.log_response import CARRY, LogResponse
from headstart.pipeline.sse import events_past
from headstart.pipeline.timing import timing_of
from headstart.stages.errors import (
    BadRequest,
    EngineFailed,
    EngineUnavailable,
    HeadstartError,
    NotFound,
)
from headstart.stages.shared_room import SharedRoom

__all__ = ["build"]

_MODELS_TIMEOUT_S = 5.0
_MAX_CURSOR_DIGITS = 20
_EXPOSED_HEADERS = [
    "metadata",
    "retry-after",
    "x-headstart-stream",
    *(
        f"x-ratelimit-{what}-{unit}"
        for unit in ("requests", "tokens")
        for what in ("limit", "remaining", "reset")
    ),
]
"""What scripts of another origin may read of an answer."""


class _Routes:
    def __init__(
        self,
        pool: ReplicaPool,
        streams: StreamTable,
        metrics: Metrics,
        settings: GatewaySettings,
        access: Access,
        transport: Callable[[str], dict[str, Any] | None],
        answering: Answering,
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._streams = streams
        self._metrics = metrics
        self._settings = settings
        self._access = access
        self._answering = answering
        self._cards: WeakKeyDictionary[RemoteEngine, list[msgspec.Raw]] = WeakKeyDictionary()
        """What each engine said of its models: that changes with the replica, and so the link."""
        self._asking: WeakKeyDictionary[RemoteEngine, asyncio.Lock] = WeakKeyDictionary()

    def routes(self) -> list[Route]:
        response, other = self._generate(RouteLabel.RESPONSE), self._generate(RouteLabel.OTHER)
        return [
            Route("/v1/chat/completions", self._generate(RouteLabel.CHAT), methods=["POST"]),
            Route("/v1/completions", self._generate(RouteLabel.COMPLETION), methods=["POST"]),
            Route("/v1/responses", response, methods=["POST"]),
            # vLLM keeps no response, and says so itself.
            Route("/v1/responses/{id}", other, methods=["GET"]),
            Route("/v1/responses/{id}/cancel", other, methods=["POST"]),
            Route("/v1/embeddings", other, methods=["POST"]),
            Route("/tokenize", other, methods=["POST"]),
            Route("/detokenize", other, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{id:path}", self.model, methods=["GET"]),
            Route("/v1/streams/{id}", self.resume, methods=["GET"]),
            Route("/v1/streams/{id}", self.cancel, methods=["DELETE"]),
            Route("/v1/streams/{id}/timing", self.timing, methods=["GET"]),
            Route("/v1/transport", self.transport, methods=["GET"]),
            Route("/healthz", self.health, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
            Route("/health", self.ready, methods=["GET"]),  # as clients of vLLM call it
            Route("/metrics", self.metrics, methods=["GET"]),
            *(page.routes(self._transport) if self._settings.page else ()),
        ]

    def _generate(self, label: RouteLabel) -> Callable[[Request], Awaitable[Response]]:
        async def generate(request: Request) -> Response:
            return await self._answering.answer(request, label)

        return generate

    async def models(self, request: Request) -> Response:
        """Merge what the engines say of the models that the caller may use."""
        models = _ModelList(await self._model_cards(caller_of(request)))
        return Response(msgspec.json.encode(models), media_type="application/json")

    async def model(self, request: Request) -> Response:
        """Answer with one entry of that list, which vLLM's own app does not offer."""
        name = request.path_params["id"]
        for card in await self._model_cards(caller_of(request)):
            if msgspec.json.decode(card, type=_ModelCard).id == name:
                return Response(bytes(card), media_type="application/json")
        raise NotFound(f"The model `{shortened(name)}` does not exist.", param="model")

    async def _model_cards(self, caller: Caller) -> list[msgspec.Raw]:
        links = [link for model in self._pool.models for link in self._pool.up(model)[:1]]
        if not links:
            raise EngineUnavailable("no replica can answer yet; try again")
        cards: list[msgspec.Raw] = []
        for link in links:
            cards += self._cards.get(link) or await self._cards_of(link)
        return [
            card for card in cards if caller.may_use(msgspec.json.decode(card, type=_ModelCard).id)
        ]

    async def _cards_of(self, link: RemoteEngine) -> list[msgspec.Raw]:
        """Ask an engine, once however many want to know: no limit counts these answers."""
        try:
            async with (
                asyncio.timeout(_MODELS_TIMEOUT_S),
                self._asking.setdefault(link, asyncio.Lock()),
            ):
                if link not in self._cards:
                    body = await self._ask(link, "/v1/models")
                    self._cards[link] = msgspec.json.decode(body, type=_ModelList).data
        except TimeoutError:
            raise EngineUnavailable("the engine is too busy to name its models") from None
        return self._cards[link]

    async def _ask(self, link: RemoteEngine, path: str) -> bytes:
        """Return the body of a GET that an engine answers at once."""
        stream = link.serve(EngineRequest(new_stream_id(), "GET", path))
        try:
            await stream.finished()
        except asyncio.CancelledError:
            await link.abort(stream.id)
            raise
        self._streams.drop(stream.id)
        header, end = stream.log.header, stream.end
        if end is not None and end.failure is not None:
            raise end.failure.to_error()
        if header is None or header.status != 200:
            raise EngineFailed("the engine could not name its models")
        return b"".join(frame.payload or b"" for _, frame in stream.log.frames(0))

    async def resume(self, request: Request) -> Response:
        """Read an answer from a cursor on; `Last-Event-ID` is what browsers send by themselves.

        With `wait`, in seconds, the response ends with what there is then: for proxies that hold
        event streams back.
        """
        try:
            answer = await self._resumed(request)
        except HeadstartError:
            self._note_resumed(request, ResumeOutcome.REFUSED)
            raise
        self._note_resumed(request, ResumeOutcome.RESUMED)
        return answer

    def _note_resumed(self, request: Request, outcome: ResumeOutcome) -> None:
        # The session counts its own, and knows why they came; who polls has come before.
        if not _is_carried(request) and "wait" not in request.query_params:
            is_over_quic = request.scope["http_version"] == "3"
            self._metrics.transport.resumed(Way.QUIC if is_over_quic else Way.SSE, outcome)

    async def _resumed(self, request: Request) -> Response:
        text = request.query_params.get("after") or request.headers.get("last-event-id") or "0"
        if not text.isdecimal() or len(text) > _MAX_CURSOR_DIGITS:
            await self._stream(request)
            raise BadRequest(f"{text[:40]!r} is not a cursor", param="after")
        stream = await self._stream(request, int(text))
        has_all = stream.end is not None and stream.end.is_whole and stream.log.end == int(text) > 0
        if has_all and not _is_carried(request):
            return Response(status_code=204)  # nothing is left, and EventSource need not come back
        after = stream.log.check_cursor(int(text))
        wait, header = request.query_params.get("wait"), stream.log.header
        is_body = header is not None and not header.is_event_stream
        if wait is not None and not is_body:
            events = await events_past(stream, after, _wait_s(wait))
            return Response(events, media_type="text/event-stream")
        return LogResponse(
            stream,
            after=after,
            heartbeat_s=self._settings.heartbeat_s,
            has_ids=True,
            join=partial(self._answering.join, stream),
        )

    async def cancel(self, request: Request) -> Response:
        """Stop an answer; what was made of it stays readable until it expires."""
        stream = await self._stream(request)
        await self._pool.continuity.abort(stream)
        return Response(status_code=204)

    async def timing(self, request: Request) -> Response:
        """Say where the time of one request went, so far."""
        stream = await self._stream(request)
        return Response(msgspec.json.encode(timing_of(stream)), media_type="application/json")

    async def transport(self, request: Request) -> Response:
        """Say where answers can be read over QUIC."""
        found = self._transport(request.headers.get("host", ""))
        if found is None:
            raise NotFound("answers are not served over QUIC here; read their event streams")
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def _stream(self, request: Request, after: int = 0) -> Stream:
        stream_id = request.path_params["id"]
        self._access.check_owner(caller_of(request), stream_id)
        return await self._pool.continuity.find(stream_id, after)

    async def health(self, _request: Request) -> Response:
        """The process lives."""
        return PlainTextResponse("ok\n")

    async def ready(self, _request: Request) -> Response:
        """Every model has a replica that can answer."""
        if self._pool.is_draining:
            return error_response(EngineUnavailable("this gateway is stopping"))
        if not self._pool.is_ready:
            missing = [model for model in self._pool.models if not self._pool.up(model)]
            return error_response(EngineUnavailable(f"no replica yet: {', '.join(missing)}"))
        return PlainTextResponse("ready\n")

    async def metrics(self, _request: Request) -> Response:
        """Everything measured, for Prometheus."""
        text = await asyncio.to_thread(self._metrics.expose)
        return Response(text, media_type=CONTENT_TYPE)


def _is_carried(request: Request) -> bool:
    """Whether it came over QUIC, whose session carries logs itself."""
    return CARRY in request.scope.get("extensions", {})


def _wait_s(text: str) -> float:
    if not text.isdecimal() or len(text) > 2:
        raise BadRequest("wait must be whole seconds below 100", param="wait")
    return float(text)


class _ModelCard(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[msgspec.Raw]
    object: str = "list"


def build(
    pool: ReplicaPool,
    streams: StreamTable,
    metrics: Metrics,
    settings: GatewaySettings,
    access: Access,
    transport: Callable[[str], dict[str, Any] | None] = lambda _host: None,
    live: LiveSettings | None = None,
    now: Callable[[], float] = time.monotonic,
    models: Sequence[ModelSettings] = (),
) -> Starlette:
    """Build the gateway's ASGI app.

    Args:
        transport: Says how to connect over QUIC, by the request's Host header; None where nobody
            can.
        live: Limits of live prompts.
        now: The clock by which these expire.
        models: All that are served.
    """
    pool.on_routed = metrics.routed
    pool.continuity.on_rescue = metrics.rescued
    pool.continuity.on_inherited = access.resume
    answering = Answering(
        pool, streams, metrics, settings, access, InputLanguages(models, pool.speculation)
    )
    routes = _Routes(pool, streams, metrics, settings, access, transport, answering)
    live = live or LiveSettings()
    replicas = LiveReplicas(pool, live.slice_s, streams.drop)
    services = LiveServices(answering, access, metrics, live, replicas, LiveShares(live, access))
    sessions = LiveSessions(services, now)
    live_routes = LiveRoutes(sessions, answering, settings).routes()
    # Browsers send no key with the question whether they may ask: CORS comes before the guard.
    middleware = [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        ),
        Middleware(Guard, access=access, settings=settings, refused=metrics.refused),
    ]
    app = Starlette(
        routes=[*routes.routes(), *(live_routes if live.enabled else ())],
        exception_handlers=HANDLERS,
        middleware=middleware if settings.cors_origins else middleware[1:],
    )
    app.state.refused = metrics.refused
    app.state.bodies = SharedRoom(settings.max_bodies_bytes)
    app.state.live = sessions
    return app
