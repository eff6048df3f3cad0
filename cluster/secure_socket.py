"""ZeroMQ sockets that only holders of the cluster secret can use.

CurveZMQ (RFC 26) encrypts and authenticates both ends. The two key pairs are derived from the
secret, so there is nothing to distribute but the secret itself.
"""

import asyncio
import hashlib
import hmac
from typing import Any

import structlog
import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator
from zmq.utils import z85

from headstart.configs.serving import MAX_MESSAGE_BYTES

__all__ = ["connect", "is_listening", "listen", "post"]

_log = structlog.get_logger(__name__)


def listen(
    context: zmq.asyncio.Context, secret: str, host: str
) -> tuple[zmq.asyncio.Socket, AsyncioAuthenticator, int]:
    """Bind a ROUTER socket to a free TCP port of `host`.

    Returns: The socket, the running authenticator (stop it at the end), and the port.
    """
    authenticator = AsyncioAuthenticator(context)
    authenticator.start()
    client_public, _ = _key_pair(secret, "gateway")
    authenticator.configure_curve_callback(credentials_provider=_OneKey(client_public))
    socket = context.socket(zmq.ROUTER)
    _configure(socket)
    # A send to a peer that has gone raises instead of vanishing.
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.curve_publickey, socket.curve_secretkey = _key_pair(secret, "replica")
    socket.curve_server = True
    port = socket.bind_to_random_port(f"tcp://{host}")
    return socket, authenticator, port


def connect(context: zmq.asyncio.Context, secret: str, address: str) -> zmq.asyncio.Socket:
    """Connect a DEALER socket to a replica's address; returns before the handshake."""
    socket = context.socket(zmq.DEALER)
    _configure(socket)
    socket.curve_publickey, socket.curve_secretkey = _key_pair(secret, "gateway")
    socket.curve_serverkey, _ = _key_pair(secret, "replica")
    socket.connect(address)
    return socket


async def is_listening(address: str, within_s: float) -> bool:
    """Whether anything takes connections at an endpoint `tcp://host:port` now."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


def post(socket: zmq.asyncio.Socket, *parts: bytes) -> None:
    """Queue one message without waiting; whether a peer has gone shows in its silence."""
    # A future whatever its annotation says, and done unless the socket could not take it at once.
    asyncio.ensure_future(socket.send_multipart(parts)).add_done_callback(_ignore_unreachable)


def _ignore_unreachable(sending: asyncio.Future[Any]) -> None:
    if not sending.cancelled() and (error := sending.exception()) is not None:
        _log.debug("peer_unreachable", error=str(error))


def _configure(socket: zmq.asyncio.Socket) -> None:
    # No high-water mark: a ROUTER drops silently at it. Credit bounds what is queued instead
    # (`headstart.stages.mirror`), and requests are bounded by the gateway's stream limit.
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)


def _key_pair(secret: str, role: str) -> tuple[bytes, bytes]:
    seed = hashlib.blake2b(secret.encode(), digest_size=32, person=role.encode()).digest()
    private = z85.encode(seed)
    return zmq.curve_public(private), private


class _OneKey:
    """Lets in whoever holds the one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def callback(self, domain: str, key: bytes) -> bool:
        return hmac.compare_digest(key, self._key)
