"""The UDP socket of the gateway: who may connect, and which packets are worth answering."""

import asyncio
import socket
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from functools import partial

from aioquic._buffer import Buffer
from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress, QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.quic.retry import QuicRetryTokenHandler
from aioquic.tls import SessionTicket

from headstart.client.carrier import Carrier
from headstart.client.quic_carrier import (
    ALGORITHM,
    MAX_DATAGRAM_FRAME,
    Opening,
    QuicCarrier,
)
from headstart.client.quic_framing import ALPN, WEBTRANSPORT_ALPN
from headstart.client.webtransport import server_framing
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import Handshake

__all__ = ["Listener", "configuration_for", "listen"]

_LONG_HEADER = 0x80
_MAX_TICKETS = 1024
"""Kept for 0-RTT; who comes back after so many others does a whole handshake."""
_UNUSED_S = 10.0
"""A connection on which nobody has greeted or asked by then only takes another's place."""
_RECEIVE_BUFFER_BYTES = 1 << 21


class Listener(QuicServer):
    """Turns packets into connections, within limits.

    With few handshakes in progress a client is served in one round trip. With many, it has to
    prove first that its address is its own (Retry, RFC 9000 section 8.1.2), and with too many
    connections new ones are not answered at all.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        opening: Opening,
        settings: QuicSettings,
        origins: tuple[str, ...] = (),
    ) -> None:
        tickets = _Tickets()
        super().__init__(
            configuration=configuration,
            create_protocol=self._carrier,
            session_ticket_handler=tickets.add,
            session_ticket_fetcher=tickets.pop,
        )
        self._opening = opening
        self._origins = origins
        self._settings = settings
        self._cid_bytes = configuration.connection_id_length
        self._tokens = QuicRetryTokenHandler()
        self._carriers: dict[QuicCarrier, float] = {}
        """When each was of use last, at first when it came, on the event loop's clock."""
        self._held_up: Counter[Handshake] = Counter()

    @property
    def port(self) -> int:
        """UDP port."""
        assert self._transport is not None
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    @property
    def num_connections(self) -> int:
        """Connections now, those in their handshake included."""
        return len(self._carriers)

    def take_held_up(self) -> Mapping[Handshake, int]:
        """Connections that were not simply let in, since this was asked last."""
        taken, self._held_up = self._held_up, Counter()
        return taken

    def expire(self, now: float, busy: Collection[Carrier], greeted: Collection[Carrier]) -> None:
        """Close connections that have had time to become of use, or of use again, and are of none.

        Packets alone do not make them useful: a ping costs nothing.
        """
        for carrier, since in list(self._carriers.items()):
            patience_s = self._settings.idle_timeout_s if carrier in greeted else _UNUSED_S
            if carrier in busy:
                self._carriers[carrier] = now
            elif now > since + patience_s:
                carrier.close(reason="nothing was asked for")
                carrier.end("nothing was asked for")

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        assert isinstance(data, bytes)
        if data and data[0] & _LONG_HEADER:
            if not self._admits(data):
                return
        elif (carrier := self._protocols.get(data[1 : 1 + self._cid_bytes])) is not None:
            carrier.datagram_received(data, addr)  # the connection reads the header again anyway
            return
        super().datagram_received(data, addr)

    def _admits(self, data: bytes) -> bool:
        """Look at a packet of a handshake, and set whether `QuicServer` asks for a token."""
        try:
            header = pull_quic_header(
                Buffer(data=data), host_cid_length=self._configuration.connection_id_length
            )
        except ValueError:
            return False
        if (
            header.packet_type != QuicPacketType.INITIAL
            or header.destination_cid in self._protocols
        ):
            return True
        if len(self._carriers) >= self._settings.max_connections:
            self._held_up[Handshake.REFUSED] += 1
            return False
        num_half_open = sum(not carrier.is_established for carrier in self._carriers)
        # A token that was asked for is checked even if the rush is over by now.
        must_prove = num_half_open >= self._settings.retry_above or bool(header.token)
        self._retry = self._tokens if must_prove else None  # type: ignore[assignment]
        self._held_up[Handshake.ASKED_TO_PROVE] += must_prove and not header.token
        return True

    def _carrier(self, quic: QuicConnection, stream_handler: object = None) -> QuicCarrier:
        carrier = QuicCarrier(quic, self._opening, partial(server_framing, origins=self._origins))
        self._carriers[carrier] = asyncio.get_running_loop().time()
        return carrier

    def _connection_terminated(self, protocol: QuicCarrier) -> None:  # type: ignore[override]
        self._carriers.pop(protocol, None)
        super()._connection_terminated(protocol)


class _Tickets:
    """Session tickets, each good for one connection: a replayed one gets a whole handshake."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[bytes, SessionTicket] = OrderedDict()

    def add(self, ticket: SessionTicket) -> None:
        self._tickets[ticket.ticket] = ticket
        if len(self._tickets) > _MAX_TICKETS:
            self._tickets.popitem(last=False)

    def pop(self, label: bytes) -> SessionTicket | None:
        return self._tickets.pop(label, None)


def configuration_for(settings: QuicSettings) -> QuicConfiguration:
    """Configure the server's side, without a certificate."""
    return QuicConfiguration(
        is_client=False,
        alpn_protocols=[WEBTRANSPORT_ALPN, ALPN],
        congestion_control_algorithm=ALGORITHM,
        idle_timeout=settings.idle_timeout_s,
        max_datagram_frame_size=MAX_DATAGRAM_FRAME,
    )


async def listen(
    host: str,
    port: int,
    configuration: QuicConfiguration,
    opening: Opening,
    settings: QuicSettings,
    origins: tuple[str, ...] = (),
) -> Listener:
    """Open the socket.

    Args:
        origins: Whose pages may open a session, beside the gateway's own.

    Raises:
        OSError: The address is in use or not this machine's.
    """
    loop = asyncio.get_running_loop()
    transport, listener = await loop.create_datagram_endpoint(
        lambda: Listener(configuration, opening, settings, origins), local_addr=(host, port)
    )
    udp: socket.socket = transport.get_extra_info("socket")
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    return listener
