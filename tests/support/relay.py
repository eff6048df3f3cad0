"""A TCP link that takes its time, in one direction or both."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from headstart.cluster.tasks import Tasks

__all__ = ["Relay", "relaying"]

_PIECE_BYTES = 1 << 16


@dataclass
class Relay:
    """Stands before a server on loopback and looks like it.

    A delay holds for what is sent while it is set; nothing overtakes anything.
    """

    port: int = 0
    to_server_s: float = 0.0
    to_client_s: float = 0.0


@asynccontextmanager
async def relaying(server_port: int) -> AsyncIterator[Relay]:
    """Run a relay to a port of 127.0.0.1."""
    relay = Relay()
    tasks = Tasks()

    async def connected(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", server_port)
        tasks.start(_carry(client, to_server, lambda: relay.to_server_s), name="to server")
        tasks.start(_carry(server, to_client, lambda: relay.to_client_s), name="to client")

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    relay.port = listening.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        listening.close()
        await tasks.close()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: Callable[[], float]
) -> None:
    """Pass bytes on, each piece a while after it came, until the reader's end."""
    now = asyncio.get_running_loop().time
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while piece := await pieces.get():
            due, data = piece
            if (left := due - now()) > 0:
                await asyncio.sleep(left)
            if not data:
                return
            writer.write(data)

    delivering = asyncio.ensure_future(deliver())
    try:
        while data := await reader.read(_PIECE_BYTES):
            pieces.put_nowait((now() + delay_s(), data))
        pieces.put_nowait((now() + delay_s(), b""))
        await delivering
    except ConnectionError:
        pass  # the other side is told by the end of its own connection
    finally:
        delivering.cancel()
        writer.transport.abort()
