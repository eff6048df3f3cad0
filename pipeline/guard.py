"""Asks for the key before anything else of a request is looked at: a route cannot forget to.

Where no key is configured, everybody may ask who can reach the gateway, and that is this machine
alone. Pages in its browsers can, whoever wrote them: what they send is known by its origin, or by
the name they ask for, and refused.

Pure ASGI, because Starlette's own base class would stand between a stream and its connection.
"""

from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.configs.settings import GatewaySettings
from headstart.monitoring.labels import Refusal
from headstart.pipeline.access import ANYONE, Access, Caller
from headstart.pipeline.errors import error_response, shortened
from headstart.stages.errors import Forbidden, HeadstartError
from headstart.stages.origins import is_own_name, may_open

__all__ = ["Guard", "caller_of"]

_KEY_PROTOCOL = "openai-insecure-api-key."
"""Before a key that a page gives as a WebSocket subprotocol: pages can set no header there."""


_READING = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing; whether a page may read the answer, its browser asks."""


def caller_of(connection: HTTPConnection) -> Caller:
    """Return who made a request."""
    caller: Caller = connection.state.caller
    return caller


class Guard:
    """Lets through who has a key.

    Args:
        app: What is guarded.
        access: Knows the keys.
        settings: Of the gateway: its names, and whose pages may ask.
        refused: Told of every request that is not let through.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        settings: GatewaySettings,
        refused: Callable[[Refusal], None],
    ) -> None:
        self._app = app
        self._access = access
        self._names = (settings.host, *settings.allowed_hosts)
        self._origins = settings.cors_origins
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._check_page(scope)
            is_open = self._access.is_open(scope["path"])
            caller = ANYONE if is_open else self._access.authenticate(_credentials(scope))
        except HeadstartError as error:
            self._refused(Refusal.of(error) or Refusal.FORBIDDEN)
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await error_response(error, scope["path"])(scope, receive, send)
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

    def _check_page(self, scope: Scope) -> None:
        """Let pages of others do nothing, where nobody needs a key.

        Raises:
            Forbidden: Such a page asks.
        """
        if self._access.needs_key:
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not is_own_name(host, self._names):
            raise Forbidden(
                f"without API keys this server answers on its own machine, and {shortened(host)!r} "
                "is no name of that: add it to gateway.allowed_hosts"
            )
        is_read = scope.get("method") in _READING
        if not is_read and not may_open(origin, host, self._origins):
            raise Forbidden(
                f"without API keys pages of other origins may not call this server: add "
                f"{shortened(origin or '')!r} to gateway.cors_origins"
            )


def _credentials(scope: Scope) -> Mapping[str, str]:
    """Return the headers that a key may be in."""
    headers = Headers(scope=scope)
    if scope["type"] == "websocket" and "authorization" not in headers:
        for offered in scope.get("subprotocols", ()):
            if offered.startswith(_KEY_PROTOCOL):
                return {"authorization": f"Bearer {offered.removeprefix(_KEY_PROTOCOL)}"}
    return headers
