"""Drives an ASGI app in process: one request in, messages out as they are sent.

`httpx.ASGITransport` would hold back the body until it is complete, so these few lines are our
own. Nothing about any engine belongs here.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["App", "Message", "call"]

Message = MutableMapping[str, Any]
App = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]


async def call(
    app: App,
    *,
    method: str,
    path: str,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    send: Callable[[Message], None],
    gone: asyncio.Event,
) -> None:
    """Run one HTTP request through `app` and return when the app does.

    Args:
        send: Called, without a task switch, with each `http.response.*` message.
        gone: Set it to tell the app that its client has gone away; the app then stops.
    """
    is_body_read = False

    async def receive() -> Message:
        nonlocal is_body_read
        if not is_body_read:
            is_body_read = True
            return {"type": "http.request", "body": body, "more_body": False}
        # Apps listen for the disconnect while they answer: returning early would abort them.
        await gone.wait()
        return {"type": "http.disconnect"}

    async def forward(message: Message) -> None:
        send(message)

    raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await app(
        {
            "type": "http",
            # From spec version 2.4 on Starlette notices a lost client only when `send` raises.
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [*raw_headers, (b"content-length", str(len(body)).encode())],
            "client": None,
            "server": None,
            "state": {},
        },
        receive,
        forward,
    )
