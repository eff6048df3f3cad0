"""A WebSocket connection, with the limits that uvicorn leaves out."""

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from headstart.configs.serving import GatewaySettings
from headstart.monitoring.labels import Refusal
from headstart.monitoring.metrics import Metrics

if TYPE_CHECKING:
    import asyncio

__all__ = ["SocketConnection"]


class SocketConnection(WebSocketsSansIOProtocol):
    """What an HTTP connection has become by its client's wish.

    Args:
        settings: The limits.
        metrics: Told of open connections.
        uvicorn: As uvicorn makes any of its connections.
    """

    def __init__(self, settings: GatewaySettings, metrics: Metrics, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._settings = settings
        self._metrics = metrics
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_write_timer()
        super().connection_lost(exc)
        self._metrics.set_connections(len(self.connections))

    def pause_writing(self) -> None:
        self._write_timer = self.loop.call_later(self._settings.send_timeout_s, self._read_is_late)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _read_is_late(self) -> None:
        self._metrics.refused(Refusal.TOO_SLOW)
        self.transport.abort()
