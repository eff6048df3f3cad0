"""QUIC in the gateway: the socket, its certificate, and the sessions on it."""

import asyncio
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from headstart.client.carrier import CarrierEvents
from headstart.client.quic_carrier import QuicCarrier
from headstart.client.quic_framing import ALPN
from headstart.client.session_wire import VERSION
from headstart.client.webtransport import PATH
from headstart.cluster.tasks import Tasks
from headstart.configs.settings import GatewaySettings, QuicSettings
from headstart.monitoring.labels import CarrierKind
from headstart.monitoring.transport_meter import TransportMeter
from headstart.pipeline.certificates import Certificates, ends_soon, from_files, is_wildcard
from headstart.pipeline.quic_listener import Listener, configuration_for, listen
from headstart.pipeline.quic_session import Session

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["QuicEndpoint"]

_log = structlog.get_logger(__name__)


class QuicEndpoint:
    """Serves an ASGI app, and the logs it answers with, over QUIC.

    Args:
        settings: Limits, address, certificate.
        gateway: Whose address it shares where it has none of its own.
        meter: Told of everything.
        now: Wall clock time, with its zone.
    """

    def __init__(
        self,
        settings: QuicSettings,
        gateway: GatewaySettings,
        meter: TransportMeter,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._meter = meter
        self._now = now
        self._host = settings.host or gateway.host
        self._app: Any = None
        self._listener: Listener | None = None
        self._tasks = Tasks()
        self._sessions: set[Session] = set()
        self._configuration = configuration_for(settings)
        self._certificates: Certificates | None = None
        self._untold: x509.Certificate | None = None
        """From files, as long as nobody has been told that it ends."""
        if settings.certificate_file is not None and settings.key_file is not None:
            self._untold = from_files(
                self._configuration, settings.certificate_file, settings.key_file
            )
        else:
            name = settings.public_host or self._host
            self._certificates = Certificates(self._configuration, name, now())

    async def start(self, app: Any, tcp_port: int) -> None:
        """Listen, and answer with `app`.

        Raises:
            OSError: The address cannot be used.
        """
        self._app = app
        port = tcp_port if self._settings.port is None else self._settings.port
        self._listener = await listen(
            self._host,
            port,
            self._configuration,
            self._accept,
            self._settings,
            self._gateway.cors_origins,
        )
        _log.debug("quic_listening", host=self._host, port=self._listener.port)

    async def close(self) -> None:
        """Tell every client, and stop listening."""
        if self._listener is not None:
            self._listener.close()
        for session in list(self._sessions):
            session.closed("the gateway stops")
        await self._tasks.close()

    def tick(self) -> None:
        """Renew the certificate if it is time, or say that somebody should; leave readers that do
        not read, and connections that serve nobody."""
        for session in list(self._sessions):
            session.expire(time.monotonic(), self._gateway.send_timeout_s)
        self.close_unused(asyncio.get_running_loop().time())
        if self._listener is not None:
            for outcome, count in self._listener.take_held_up().items():
                self._meter.held_up(outcome, count)
        if self._certificates is not None and self._certificates.expire(self._now()):
            _log.info("quic_certificate_renewed")
        if self._untold is not None and ends_soon(self._untold, self._now()):
            end, self._untold = self._untold.not_valid_after_utc, None
            fix = "renew quic.certificate_file, which is read at start"
            _log.warning("quic_certificate_ends", at=end.isoformat(), fix=fix)

    def close_unused(self, now: float) -> None:
        """Close connections that nobody asks or reads on, by the loop's clock; keep up the others.

        An answer may be long in coming; who waits for it must not be taken for gone.
        """
        if self._listener is None:
            return
        busy = {session.carrier for session in self._sessions if session.is_busy}
        for carrier in busy:
            carrier.keep_alive(now)
        greeted = {session.carrier for session in self._sessions if session.is_greeted}
        self._listener.expire(now, busy, greeted)

    def describe(self, asked: str) -> dict[str, Any] | None:
        """What a client needs to connect; None while nothing listens.

        Args:
            asked: The `Host` header by which it has found the gateway.
        """
        if self._listener is None:
            return None
        name = self._public_host(asked)
        host = f"[{name}]" if ":" in name else name
        port = self._settings.public_port or self._listener.port
        hashes = [] if self._certificates is None else self._certificates.hashes
        return {
            "version": VERSION,
            "url": f"https://{host}:{port}{PATH}",
            "host": name,
            "is_public": self._settings.public_host is not None,
            "port": port,
            "alpn": ALPN,
            "certificate_hashes": [
                {"algorithm": "sha-256", "value": b64encode(value).decode()} for value in hashes
            ],
        }

    def _public_host(self, asked: str) -> str:
        """What is set; else an address of its own, or a client gets here as it got to HTTP."""
        if self._settings.public_host is not None:
            return self._settings.public_host
        if self._settings.host is not None and not is_wildcard(self._settings.host):
            return self._settings.host
        try:
            return urlsplit(f"//{asked}").hostname or self._host
        except ValueError:
            return self._host

    @property
    def port(self) -> int:
        """UDP port that it listens on, once it does."""
        assert self._listener is not None
        return self._listener.port

    @property
    def num_sessions(self) -> int:
        """Sessions that are open now."""
        return len(self._sessions)

    def _accept(self, carrier: QuicCarrier, path: str | None) -> CarrierEvents | None:
        session = Session(
            carrier,
            CarrierKind.PLAIN if path is None else CarrierKind.WEBTRANSPORT,
            self._app,
            self._settings,
            self._gateway.max_body_bytes,
            self._meter,
            self._tasks,
            self._sessions.discard,
        )
        self._sessions.add(session)
        return session
