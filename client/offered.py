"""Sessions where the gateway says that it has them: `GET /v1/transport`, then QUIC."""

import asyncio
import os
from http import HTTPStatus
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING

import httpx
import msgspec

from headstart.client.errors import unreachable
from headstart.client.session_wire import VERSION

if TYPE_CHECKING:
    from aioquic.tls import SessionTicket

    from headstart.client.quic_connect import Trust
    from headstart.client.quic_session import QuicSession

__all__ = ["Offered", "can_read_datagrams"]

_ASK_S = 5.0


class _Hash(msgspec.Struct):
    algorithm: str
    value: bytes


class _Offer(msgspec.Struct):
    version: int
    host: str
    port: int
    certificate_hashes: list[_Hash]
    is_public: bool = False
    """Whether `host` was set for clients, and is not just what the gateway listens on."""


def can_read_datagrams() -> bool:
    """Whether the extra `quic` is installed."""
    return find_spec("aioquic") is not None


class Offered:
    """A `Connect` that asks the gateway, whose certificate may be another by then.

    It need not ask with a ticket of an earlier session, which only the same gateway takes: what is
    asked over the next one, an answer to read on, leaves with its first packet (0-RTT). A session
    whose ticket is not taken ends, and the one after it asks again.

    Args:
        http: Asks the gateway.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._is_refused = False
        self._known: tuple[str, int, Trust] | None = None
        self._ticket: SessionTicket | None = None

    async def __call__(self) -> "QuicSession":
        """Open a session.

        Raises:
            OSError: The gateway offers none, or it cannot be reached there.
        """
        ticket, self._ticket = self._ticket, None  # good for one session
        if ticket is not None and ticket.is_valid and self._known is not None:
            return await self._connect(*self._known, ticket)
        offer = await self._ask()
        hashes = frozenset(
            one.value for one in offer.certificate_hashes if one.algorithm == "sha-256"
        )
        # A tenth of a second of work, during which the event stream goes on.
        await asyncio.to_thread(import_module, "headstart.client.quic_session")
        from headstart.client.quic_connect import Trust

        asked = self._http.base_url.host
        host = offer.host if offer.is_public else _address(offer.host, asked, bool(hashes))
        trust = Trust(hashes, os.environ.get("SSL_CERT_FILE"))  # as HTTP's
        self._known = host, offer.port, trust
        return await self._connect(*self._known)

    async def _connect(
        self, host: str, port: int, trust: "Trust", ticket: "SessionTicket | None" = None
    ) -> "QuicSession":
        from headstart.client.quic_session import connect

        return await connect(host, port, trust, ticket=ticket, on_ticket=self._keep)

    def _keep(self, ticket: "SessionTicket") -> None:
        self._ticket = ticket

    async def _ask(self) -> _Offer:
        if self._is_refused:
            raise ConnectionError("the gateway offers no datagrams")
        try:
            async with asyncio.timeout(_ASK_S):
                answer = await self._http.get("/v1/transport")
            self._is_refused = answer.status_code == HTTPStatus.NOT_FOUND
            offer = msgspec.json.decode(answer.raise_for_status().content, type=_Offer)
            if offer.version != VERSION:
                raise ConnectionError(f"the gateway speaks version {offer.version}")
        except httpx.HTTPError as error:
            raise ConnectionError(unreachable(error)) from error
        except msgspec.DecodeError as error:
            raise ConnectionError(f"not an offer of datagrams: {error}") from error
        return offer


def _address(announced: str, asked: str, is_pinned: bool) -> str:
    """Choose between the address that the gateway listens on and the one it was asked at.

    Its own is no use to others where it is all of its addresses, or one that every machine has;
    and a certificate that an authority vouches for is for the name that clients know.
    """
    if not is_pinned:
        return asked
    if _is_unspecified(announced) or (_is_loopback(announced) and not _is_loopback(asked)):
        return asked
    return announced


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
