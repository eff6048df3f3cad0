"""The libraries that could carry the data plane, as one shape: bytes in order, both ways.

Nothing is measured here. Every arm but plain pyzmq and plain grpc.aio authenticates both ends and
encrypts; the arm in use is the product's own `headstart.cluster.secure_socket`.
"""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import zmq.asyncio

from headstart.cluster import secure_socket
from headstart.stages.errors import SetupError

__all__ = ["ARMS", "Credentials", "Heard", "Link", "Send", "connect", "serve"]

ARMS = ("pyzmq", "pyzmq+CURVE", "grpc.aio", "grpc.aio+TLS")

_HOST = "127.0.0.1"
_SERVICE, _METHOD = "headstart.DataPlane", "Talk"

Send = Callable[[bytes], Awaitable[object]]
Heard = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Link:
    """The connecting side of one connection."""

    send: Send
    receive: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What both ends know."""

    secret: str
    key: bytes
    certificate: bytes

    @classmethod
    def make(cls, secret: str) -> Self:
        """Make a self-signed certificate that serves both ends.

        Raises:
            SetupError: There is no `openssl`.
        """
        if shutil.which("openssl") is None:
            raise SetupError("the TLS arm needs a certificate: install openssl")
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = Path(folder, "key"), Path(folder, "certificate")
            command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
            subject = f"-days 2 -subj /CN=headstart -addext subjectAltName=IP:{_HOST}"
            files = ("-keyout", key, "-out", certificate)
            subprocess.run(
                [*command.split(), *subject.split(), *files], check=True, capture_output=True
            )
            return cls(secret, key.read_bytes(), certificate.read_bytes())


async def serve(
    arm: str,
    credentials: Credentials,
    listening: Callable[[int], None],
    accept: Callable[[Send], Heard],
) -> None:
    """Listen until cancelled.

    Args:
        arm: One of `ARMS`.
        credentials: The same as the other end's.
        listening: Called once with the port.
        accept: Called for each connection with what sends on it; returns what takes its messages.
    """
    if arm.startswith("grpc"):
        await _serve_grpc(arm, credentials, listening, accept)
    else:
        await _serve_zmq(arm, credentials, listening, accept)


async def _serve_zmq(
    arm: str,
    credentials: Credentials,
    listening: Callable[[int], None],
    accept: Callable[[Send], Heard],
) -> None:
    context = zmq.asyncio.Context()
    if arm == "pyzmq":
        socket = context.socket(zmq.ROUTER)
        socket.set_hwm(0)
        listening(socket.bind_to_random_port(f"tcp://{_HOST}"))
    else:
        socket, _, port = secure_socket.listen(context, credentials.secret, _HOST)
        listening(port)
    peers: dict[bytes, Heard] = {}
    while True:
        identity, data = await socket.recv_multipart()
        if identity not in peers:
            peers[identity] = accept(_poster(socket, identity))
        peers[identity](data)


def _poster(socket: zmq.asyncio.Socket, *address: bytes) -> Send:
    async def send(data: bytes) -> None:
        secure_socket.post(socket, *address, data)

    return send


async def _serve_grpc(
    arm: str,
    credentials: Credentials,
    listening: Callable[[int], None],
    accept: Callable[[Send], Heard],
) -> None:
    async def talk(_requests: object, context: grpc.aio.ServicerContext) -> None:
        heard = accept(context.write)
        while (data := await context.read()) is not grpc.aio.EOF:
            heard(data)

    server = grpc.aio.server()
    # Neither side names a serialiser: messages are bytes, and protobuf has no part in it.
    method = grpc.stream_stream_rpc_method_handler(talk)
    handler = grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method})
    server.add_generic_rpc_handlers((handler,))
    if arm == "grpc.aio":
        port = server.add_insecure_port(f"{_HOST}:0")
    else:
        ours, theirs = [(credentials.key, credentials.certificate)], credentials.certificate
        tls = grpc.ssl_server_credentials(ours, theirs, require_client_auth=True)
        port = server.add_secure_port(f"{_HOST}:0", tls)
    await server.start()
    listening(port)
    await server.wait_for_termination()


@contextlib.asynccontextmanager
async def connect(arm: str, credentials: Credentials, port: int) -> AsyncIterator[Link]:
    """Open a new connection; returns before any handshake."""
    if arm.startswith("grpc"):
        # Else a second channel would find the first one's connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"{_HOST}:{port}"
        if arm == "grpc.aio":
            channel = grpc.aio.insecure_channel(address, options)
        else:
            pem = credentials.certificate
            tls = grpc.ssl_channel_credentials(pem, credentials.key, pem)
            channel = grpc.aio.secure_channel(address, tls, options)
        async with channel:
            call = channel.stream_stream(f"/{_SERVICE}/{_METHOD}")()
            yield Link(call.write, call.read)
            await call.done_writing()
        return
    context = zmq.asyncio.Context()
    if arm == "pyzmq":
        socket = context.socket(zmq.DEALER)
        socket.set_hwm(0)
        socket.connect(f"tcp://{_HOST}:{port}")
    else:
        socket = secure_socket.connect(context, credentials.secret, f"tcp://{_HOST}:{port}")
    yield Link(_poster(socket), socket.recv)
    context.destroy(linger=0)
