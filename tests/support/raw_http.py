"""HTTP by hand, for clients that behave as no library lets one."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.support.waiting import soon

__all__ = ["Connection", "connected"]


_PIECE_BYTES = 1 << 16


class Connection:
    """One TCP connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    def post(self, path: str, body: dict[str, Any], **headers: str) -> None:
        """Send a whole request."""
        data = json.dumps(body).encode()
        self.head("POST", path, content_length=str(len(data)), **headers)
        self.write(data)

    def head(self, method: str, path: str, **headers: str) -> None:
        """Send a request up to its body."""
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", "content-type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.write("\r\n".join([*lines, "", ""]).encode())

    async def until(self, mark: bytes) -> bytes:
        """Read up to and including `mark`."""
        return await soon(self._reader.readuntil(mark))

    async def all_until(self, mark: bytes) -> bytes:
        """Read on until what has been read holds `mark`, however much that is."""
        data = bytearray()
        while data.find(mark, -len(mark) - _PIECE_BYTES) < 0:
            piece = await soon(self._reader.read(_PIECE_BYTES))
            assert piece, "the server hung up"
            data += piece
        return bytes(data)

    async def rest(self) -> bytes:
        """Read until the server hangs up, or resets the connection."""
        data = bytearray()
        with suppress(ConnectionResetError):
            while piece := await soon(self._reader.read(_PIECE_BYTES)):
                data += piece
        return bytes(data)

    def hang_up(self) -> None:
        """Close the connection at once, whatever has not been read."""
        self._writer.transport.abort()


@asynccontextmanager
async def connected(
    address: tuple[str, int], receive_buffer: int | None = None
) -> AsyncIterator[Connection]:
    """Connect to a server.

    Args:
        receive_buffer: Bytes that the kernel may hold for a client that does not read.
    """
    with socket.socket() as plain:
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, address)
        # The reader's own limit bounds what is read ahead of the test.
        reader, writer = await asyncio.open_connection(sock=plain, limit=_PIECE_BYTES)
        try:
            yield Connection(reader, writer)
        finally:
            writer.transport.abort()
