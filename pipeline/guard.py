"""Asks for the key before anything else of a request is looked at: a route cannot forget to.

Pure ASGI, because Starlette's own base class would stand between a stream and its connection.
"""

from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.monitoring.labels import Refusal
from headstart.pipeline.access import Access, Caller
from headstart.pipeline.errors import error_response
from headstart.stages.errors import HeadstartError

__all__ = ["Guard", "caller_of"]

_KEY_PROTOCOL = "openai-insecure-api-key."
"""Before a key that a page gives as a WebSocket subprotocol: pages can set no header there."""


def caller_of(connection: HTTPConnection) -> Caller:
    """Return who made a request."""
    caller: Caller = connection.state.caller
    return caller


class Guard:
    """Lets through who has a key.

    Args:
        app: What is guarded.
        access: Knows the keys.
        refused: Told of every request that is not let through.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        refused: Callable[[Refusal], None],
    ) -> None:
        self._app = app
        self._access = access
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._access.is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            caller = self._access.authenticate(_credentials(scope))
        except HeadstartError as error:
            self._refused(Refusal.UNAUTHENTICATED)
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await error_response(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller

        async def send_with_quota(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    *(
                        (name.encode(), value.encode())
                        for name, value in self._access.quota_headers(caller)
                    ),
                ]
            await send(message)

        await self._app(scope, receive, send_with_quota if caller.key else send)


def _credentials(scope: Scope) -> Mapping[str, str]:
    """Return the headers that a key may be in."""
    headers = Headers(scope=scope)
    if scope["type"] == "websocket" and "authorization" not in headers:
        for offered in scope.get("subprotocols", ()):
            if offered.startswith(_KEY_PROTOCOL):
                return {"authorization": f"Bearer {offered.removeprefix(_KEY_PROTOCOL)}"}
    return headers
