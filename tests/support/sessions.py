"""Native sessions with a gateway in this process."""

from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from headstart.client.quic_connect import Trust
from headstart.client.quic_session import QuicSession, connect
from headstart.client.reading import Reading
from headstart.stages.frames import decode_frame, decode_header, record_bounds
from headstart.stages.sse import project
from tests.support.gateway import CHAT, Gateway, saying
from tests.support.waiting import soon

__all__ = ["asking", "events_of", "session_with", "whole"]


@asynccontextmanager
async def session_with(
    gateway: Gateway, port: int | None = None, **how: Any
) -> AsyncIterator[QuicSession]:
    """Open a session by what the gateway says of itself, or through a relay's port."""
    said = (await gateway.client.get("/v1/transport")).json()
    hashes = frozenset(b64decode(one["value"]) for one in said["certificate_hashes"])
    session = await connect("127.0.0.1", port or said["port"], Trust(hashes), **how)
    try:
        yield session
    finally:
        session.close()


async def asking(session: QuicSession, **fields: Any) -> Reading:
    """Ask for a streamed chat answer."""
    body = msgspec.json.encode(saying(stream=True, **fields))
    return await soon(session.ask("POST", CHAT, body=body))


async def whole(reading: Reading) -> bytes:
    """Wait for the end of an answer that has no reason to fail, and return its log."""
    await soon(reading.finished())
    assert reading.error is None, reading.error
    assert reading.is_whole
    return reading.log


def events_of(log: bytes) -> bytes:
    """The server-sent events that a log projects to."""
    (start, stop), *frames = record_bounds(log)
    header = decode_header(log[start:stop])
    return b"".join(project(header, decode_frame(log[start:stop])) for start, stop in frames)
