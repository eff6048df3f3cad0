"""A link, the gateways at its one end, and a process for readers at the other."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self, TypeVar

import msgspec
import psutil

from headstart.benchmarks.child import Child, command
from headstart.benchmarks.lossy_link import Forward, Standing
from headstart.benchmarks.network_spaces import SERVER
from headstart.benchmarks.socket_gateways import LOOPBACK, Gateways
from headstart.benchmarks.socket_orders import SCHEMES, Enter
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings

__all__ = ["Ends"]

Reply = TypeVar("Reply")


class Ends:
    """Everything that runs. A context manager.

    Args:
        settings: Of the gateways.
        models: What they serve.
        folder: For logs.
        readers: Module whose `serve` is the readers' end.
        schemes: One gateway for each.
    """

    def __init__(
        self,
        settings: Settings,
        models: Sequence[ModelSettings],
        folder: Path,
        readers: str,
        schemes: Sequence[str] = SCHEMES,
    ) -> None:
        self._settings, self._models, self._folder = settings, models, folder
        self._module, self._schemes = readers, schemes
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._link = self._started("link", "headstart.benchmarks.lossy_link", stack)
            self.standing = self._link.hear(Standing)
            is_tun = self.standing.kind == "tun"
            self.gateways = Gateways(
                self._settings,
                self._models,
                self._folder,
                SERVER if is_tun else LOOPBACK,
                self.standing.server_space,
                self._schemes,
            )
            stack.callback(self.gateways.stop)
            ports = self.order(Forward([door.port for door in self.gateways.doors]), list[int])
            self.doors = [
                msgspec.structs.replace(door, port=port)
                for door, port in zip(self.gateways.doors, ports, strict=True)
            ]
            self._readers = self._started("readers", self._module, stack)
            self.tell_readers(Enter(self.standing.client_space))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def order(self, order: msgspec.Struct, reply: type[Reply]) -> Reply:
        """Give the link an order and wait for its answer."""
        self._link.tell(msgspec.json.encode(order))
        return self._link.hear(reply)

    def tell_readers(self, order: msgspec.Struct) -> None:
        """Give the readers an order."""
        self._readers.tell(msgspec.json.encode(order))

    def hear_readers(self, reply: type[Reply]) -> Reply:
        """Wait for their answer to it."""
        return self._readers.hear(reply)

    def others_cores(self) -> Callable[[], float]:
        """Begin to count; the result says how many cores everyone else has had busy since."""
        began, before_s = time.monotonic(), self._others_cpu_s()

        def so_far() -> float:
            used_s = self._others_cpu_s() - before_s
            return max(0.0, used_s) / (time.monotonic() - began)

        return so_far

    def _others_cpu_s(self) -> float:
        machine = psutil.cpu_times()
        used_s = sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice
        own_s = time.process_time()
        for process in self._link.arm.tree | self._readers.arm.tree | self.gateways.tree:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                own_s += times.user + times.system
        return float(used_s - own_s)

    def _started(self, name: str, module: str, stack: ExitStack) -> Child:
        child = Child(name, command(module, "serve"), self._folder / f"{name}.log")
        stack.callback(child.arm.stop)
        return child
