"""Opens a carrier to a Headstart gateway from a program."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import SessionTicket

from headstart.client.quic_carrier import (
    ALGORITHM,
    MAX_DATAGRAM_FRAME,
    Opening,
    QuicCarrier,
    peer_certificate,
)
from headstart.client.quic_framing import ALPN, WEBTRANSPORT_ALPN, PlainFraming
from headstart.client.webtransport import WebTransportClient

__all__ = ["Trust", "open_carrier", "rebind"]


@dataclass(frozen=True, slots=True)
class Trust:
    """Which servers to believe. With nothing set, those that the system's authorities vouch for."""

    certificate_hashes: frozenset[bytes] = field(default_factory=frozenset)
    """SHA-256 of the only certificates accepted, as `/v1/transport` publishes them."""
    authorities: str | None = None
    """PEM file instead of the system's."""


async def open_carrier(
    host: str,
    port: int,
    opening: Opening,
    trust: Trust,
    *,
    is_webtransport: bool = False,
    has_datagrams: bool = True,
    timeout_s: float = 5.0,
    ticket: SessionTicket | None = None,
    on_ticket: Callable[[SessionTicket], None] | None = None,
) -> QuicCarrier:
    """Connect, and return once a session is open.

    With a `ticket` from an earlier connection the session is open at once, and what it says at
    first may reach the server twice. A server that no longer takes the ticket must have a
    certificate of a known authority, announced or not; else the session ends.

    Args:
        opening: Asked for the listener as the session opens.
        is_webtransport: As a browser would, instead of plain QUIC.
        has_datagrams: Without, the server falls back to reliable streams.

    Raises:
        ConnectionError: Nobody answers in time, or not with a trusted certificate.
    """
    configuration = QuicConfiguration(
        alpn_protocols=[WEBTRANSPORT_ALPN if is_webtransport else ALPN],
        congestion_control_algorithm=ALGORITHM,
        max_datagram_frame_size=MAX_DATAGRAM_FRAME if has_datagrams else None,
        server_name=host,
        session_ticket=ticket,
        # A server that knows the ticket shows no certificate. One that does not would show it
        # after the first requests have gone out, too late for a look at its hash.
        verify_mode=(
            ssl.CERT_NONE if trust.certificate_hashes and ticket is None else ssl.CERT_REQUIRED
        ),
        cafile=trust.authorities,
    )
    loop = asyncio.get_running_loop()
    (family, _, _, _, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    quic = QuicConnection(configuration=configuration, session_ticket_handler=on_ticket)
    carrier = QuicCarrier(quic, opening)
    await loop.create_datagram_endpoint(lambda: carrier, local_addr=(_any(family), 0))
    try:
        async with asyncio.timeout(timeout_s):
            carrier.connect(address)
            if ticket is None:
                await carrier.wait_connected()
                _check(quic, trust)
            if is_webtransport:
                await _open_webtransport(carrier, f"{host}:{port}")
            else:
                carrier.open(PlainFraming(quic), None)
    except (TimeoutError, ConnectionError) as error:
        why = str(error) or carrier.ended_for or "no answer"
        carrier.close()
        raise ConnectionError(f"no session with {host}:{port}: {why}") from error
    except BaseException:
        carrier.close()
        raise
    return carrier


async def rebind(carrier: QuicCarrier) -> None:
    """Go on from another local port, as after a change of network."""
    old = carrier.transport
    family = old.get_extra_info("socket").family
    await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: carrier, local_addr=(_any(family), 0)
    )
    old.close()
    carrier.change_connection_id()
    carrier.path_changed()


async def _open_webtransport(carrier: QuicCarrier, authority: str) -> None:
    status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    WebTransportClient(carrier, authority, status.set_result)
    carrier.transmit()
    if (found := await status) != HTTPStatus.OK:
        raise ConnectionError(f"the server refused the session with {found}")


def _check(quic: QuicConnection, trust: Trust) -> None:
    if not trust.certificate_hashes:
        return
    certificate = peer_certificate(quic)
    if certificate is None or sha256(certificate).digest() not in trust.certificate_hashes:
        raise ConnectionError("its certificate is none of those that were announced")


def _any(family: int) -> str:
    return "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - a client's own end
