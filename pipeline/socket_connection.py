"""A WebSocket connection, with the limits that uvicorn leaves out."""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from headstart.configs.serving import GatewaySettings
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.slow_reader import SlowReader

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
        self._metrics = metrics
        self._slow_reader = SlowReader(self.loop, settings.send_timeout_s, metrics)

    def connection_lost(self, exc: Exception | None) -> None:
        self._slow_reader.resumed()
        super().connection_lost(exc)
        self._metrics.set_connections(len(self.connections))

    def pause_writing(self) -> None:
        self._slow_reader.paused(self.transport)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._slow_reader.resumed()
        super().resume_writing()
