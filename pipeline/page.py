"""The browser module, `client/web`, and the chat page at `/` that uses it, `client/web/page`.

Their scripts, types and styles are served, from memory, without a key: a page has to be there
before anybody can enter one.
"""

import re
from collections.abc import Callable
from gzip import compress
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["routes"]

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
}
_FOLDERS = ("web", "web/page")
_SAFE_HOST = re.compile(r"[A-Za-z0-9.-]+")
_HEADERS = {
    # Browsers ask each time, and are told that nothing has changed: no two versions ever mix.
    "cache-control": "no-cache",
    "vary": "accept-encoding",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

Transport = Callable[[str], dict[str, Any] | None]


def routes(transport: Transport) -> list[Route]:
    """Make the page's routes.

    Args:
        transport: Says where answers can be read over QUIC, which the page's policy has to allow.
    """
    client = resources.files("headstart.client")
    page = _Page(client / "web/page/index.html", transport)
    return [
        Route("/", page.answer, methods=["GET"]),
        *(
            Route(f"/{folder}/{file.name}", _File(file).answer, methods=["GET"])
            for folder in _FOLDERS
            for file in (client / folder).iterdir()
            if PurePath(file.name).suffix in _TYPES
        ),
    ]


class _File:
    """Answers with one file."""

    def __init__(self, file: Traversable) -> None:
        self._type = _TYPES.get(PurePath(file.name).suffix, "text/html; charset=utf-8")
        self._body = file.read_bytes()
        self._packed = compress(self._body, mtime=0)
        self._tag = f'W/"{sha256(self._body).hexdigest()[:16]}"'

    async def answer(self, request: Request) -> Response:
        """Send it, packed where the client unpacks it, or say that the client has it."""
        headers = self._headers(request)
        if self._tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self._packed, headers={**headers, "content-encoding": "gzip"})
        return Response(self._body, headers=headers)

    def _headers(self, _request: Request) -> dict[str, str]:
        return {**_HEADERS, "etag": self._tag, "content-type": self._type}


class _Page(_File):
    """The page itself, with what it may load and connect to."""

    def __init__(self, file: Traversable, transport: Transport) -> None:
        super().__init__(file)
        self._transport = transport

    def _headers(self, request: Request) -> dict[str, str]:
        policy = {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "data:",
            "connect-src": " ".join(["'self'", *self._sessions(request.headers.get("host", ""))]),
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        return {
            **super()._headers(request),
            "content-security-policy": "; ".join(f"{name} {of}" for name, of in policy.items()),
            "cross-origin-opener-policy": "same-origin",
        }

    def _sessions(self, asked: str) -> list[str]:
        """Origins of WebTransport sessions: the announced one, and its port where we were asked.

        The latter is a client's own words: what could say more than a host is left out.
        """
        offer = self._transport(asked)
        if offer is None:
            return []
        url = urlsplit(str(offer["url"]))
        hosts = {url.hostname or "", asked.rpartition(":")[0] or asked}
        return [
            f"https://{host}:{url.port}" for host in sorted(hosts) if _SAFE_HOST.fullmatch(host)
        ]
