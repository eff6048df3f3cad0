"""Gateway processes and fake engines, as who measures them speaks to them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from headstart.benchmarks.child import Child, command
from headstart.benchmarks.socket_orders import (
    SCHEMES,
    Door,
    Kill,
    Made,
    Memory,
    Open,
    Used,
    When,
    settings_for,
)
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings

__all__ = ["KEEP_S", "LOOPBACK", "Gateways"]

LOOPBACK = "127.0.0.1"
KEEP_S = 30.0
"""How long gateways and engines keep a finished answer."""


class Gateways:
    """Gateway processes around fake engines, one for each scheme.

    Args:
        settings: All else.
        models: What is served.
        folder: For a log.
        host: Where they listen.
        space: Network namespace; None is this process's own.
    """

    def __init__(
        self,
        settings: Settings,
        models: Sequence[ModelSettings],
        folder: Path,
        host: str = LOOPBACK,
        space: str | None = None,
        schemes: Sequence[str] = SCHEMES,
    ) -> None:
        argv = command("headstart.benchmarks.socket_server", "serve")
        self._child = Child("gateways", argv, folder / "gateways.log")
        own = [settings_for(settings, models, host, scheme, KEEP_S) for scheme in schemes]
        try:
            order = Open([each.to_child() for each in own], host, space)
            self._child.tell(msgspec.json.encode(order))
            self.doors = self._child.hear(list[Door])
        except BaseException:
            self.stop()
            raise

    def made(self, ids: Sequence[str]) -> list[Made]:
        """When the tokens of answers were made."""
        self._child.tell(msgspec.json.encode(When(list(ids))))
        return self._child.hear(list[Made])

    def used(self) -> list[Used]:
        """What each gateway uses."""
        self._child.tell(msgspec.json.encode(Memory()))
        return self._child.hear(list[Used])

    def kill(self, gateway: int) -> Door:
        """Kill a gateway and wait for the next."""
        self._child.tell(msgspec.json.encode(Kill(gateway)))
        return self._child.hear(Door)

    @property
    def tree(self) -> set[psutil.Process]:
        """Its processes."""
        return self._child.arm.tree

    def stop(self) -> None:
        """Stop all of it."""
        self._child.arm.stop()
