"""Live prompts over plain HTTP: the same session that the WebSocket has, one request an event."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from headstart.cluster.tasks import first_of
from headstart.configs.settings import GatewaySettings
from headstart.pipeline.answering import Answering
from headstart.pipeline.guard import caller_of
from headstart.pipeline.inbound import read_body as read_bytes
from headstart.pipeline.live_answer import Changed
from headstart.pipeline.live_events import Append, CommitBody, Edits, SessionConfig, read_body
from headstart.pipeline.live_report import state
from headstart.pipeline.live_session import LiveSession
from headstart.pipeline.live_sessions import LiveSessions
from headstart.pipeline.live_socket import LiveSocket
from headstart.pipeline.log_response import client_gone
from headstart.stages.errors import BadRequest, HeadstartError
from headstart.stages.origins import may_open

__all__ = ["LiveRoutes"]


class _Began(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: SessionConfig | None = None
    text: str = ""


class LiveRoutes:
    """The routes.

    Args:
        sessions: The sessions.
        answering: Carries their answers.
        settings: Of the gateway.
    """

    def __init__(
        self,
        sessions: LiveSessions,
        answering: Answering,
        settings: GatewaySettings,
    ) -> None:
        self._sessions = sessions
        self._answering = answering
        self._settings = settings

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/live", self.create, methods=["POST"]),
            Route("/v1/live/{id}", self.show, methods=["GET"]),
            Route("/v1/live/{id}", self.edit, methods=["PATCH"]),
            Route("/v1/live/{id}", self.end, methods=["DELETE"]),
            Route("/v1/live/{id}/commit", self.commit, methods=["POST"]),
            Route("/v1/live/{id}/cancel", self.cancel, methods=["POST"]),
            WebSocketRoute("/v1/realtime", self.realtime),
        ]

    async def create(self, request: Request) -> Response:
        """Begin a session."""
        asked = read_body(await self._body(request), _Began)
        session = self._sessions.create(caller_of(request))
        try:
            if asked.session is not None:
                session.configure(asked.session)
            if asked.text:
                session.edit(Append(text=asked.text))
        except HeadstartError:
            self._sessions.end(session)
            raise
        session.start()
        return _state(session, 201)

    async def show(self, request: Request) -> Response:
        """Say what there is of a session; with `?text=1` its text, too."""
        has_text = request.query_params.get("text") == "1"
        return _state(self._session(request), has_text=has_text)

    async def edit(self, request: Request) -> Response:
        """Change a session, then its text; the first change that is refused is the last made."""
        asked = read_body(await self._body(request), Edits)
        session = self._session(request)
        if asked.session is not None:
            session.configure(asked.session)
            session.tell(Changed.SESSION)
        with _told(session):
            session.edit(*asked.edits)
        return _state(session)

    async def commit(self, request: Request) -> Response:
        """Send the text off; the response is the answer, as an event stream with cursors."""
        asked = read_body(await self._body(request), CommitBody)
        session = self._session(request)
        with _told(session):
            session.catch_up(asked.edits, asked.sha256)
        answer = await first_of(session.commit(asked.version), client_gone(request.receive))
        if answer is None:
            raise BadRequest("the client left before its text was sent off")
        session.tell(answer)
        return self._answering.response(answer.stream, answer.inbound, answer.pace)

    async def cancel(self, request: Request) -> Response:
        """Stop the answer, or the commit that waits for a thought; wait until it has ended."""
        session = self._session(request)
        answer = session.answer if session.is_answering else None
        await session.cancel()
        if answer is not None:
            await asyncio.shield(answer.settled)
        return _state(self._session(request))  # unless it was closed meanwhile

    async def end(self, request: Request) -> Response:
        """Forget a session and its text."""
        self._sessions.end(self._session(request))
        return Response(status_code=204)

    async def realtime(self, socket: WebSocket) -> None:
        """Have a session over a WebSocket."""
        origin, host = socket.headers.get("origin"), socket.headers.get("host", "")
        if may_open(origin, host, self._settings.cors_origins):
            await LiveSocket(socket, self._sessions).run()
        else:
            await socket.close(1008)

    def _session(self, request: Request) -> LiveSession:
        return self._sessions.get(request.path_params["id"], caller_of(request))

    async def _body(self, request: Request) -> bytes:
        return await read_bytes(request, self._settings)


@contextmanager
def _told(session: LiveSession) -> Iterator[None]:
    """Tell whoever watches a session of what edits have changed, be the last of them refused."""
    before = session.version
    try:
        yield
    finally:
        if session.version != before:
            session.tell(Changed.TEXT)


def _state(session: LiveSession, status: int = 200, *, has_text: bool = False) -> Response:
    body = msgspec.json.encode(state(session, has_text=has_text))
    return Response(body, status, media_type="application/json")
