"""Link, gateways and readers of a run on real sockets, and one block of answers over them."""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self, TypeVar

import msgspec
import psutil

from headstart.benchmarks.child import Child, command
from headstart.benchmarks.link_flows import Flow
from headstart.benchmarks.lossy_link import Begin, Crossed, Forward, Standing, Tell
from headstart.benchmarks.network_spaces import CLIENTS, SERVER
from headstart.benchmarks.socket_cells import TOKENS_PER_S, SocketSample
from headstart.benchmarks.socket_client import Ask, Connect, Enter
from headstart.benchmarks.socket_gateways import LOOPBACK, Gateways
from headstart.benchmarks.socket_orders import SCHEMES, Door, model
from headstart.benchmarks.socket_readers import Arm, Shown
from headstart.benchmarks.socket_scores import Block, scored
from headstart.benchmarks.transport_grid import Setting
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings

__all__ = ["MODEL", "Rig"]

Reply = TypeVar("Reply")

MODEL = model("paced", TOKENS_PER_S)
_START_S = 0.3
"""Between the last connection and the first request."""
_CONTROLS = {Arm.CUBIC: "cubic", Arm.BBR: "bbr"}


class Rig:
    """Everything that runs. A context manager.

    Args:
        settings: Of the gateways.
        models: What they serve.
        folder: For logs.
    """

    def __init__(self, settings: Settings, models: Sequence[ModelSettings], folder: Path) -> None:
        self._settings, self._models, self._folder = settings, models, folder
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
            )
            stack.callback(self.gateways.stop)
            ports = self._order(Forward([door.port for door in self.gateways.doors]), list[int])
            self._doors = [
                msgspec.structs.replace(door, port=port)
                for door, port in zip(self.gateways.doors, ports, strict=True)
            ]
            self._client = self._started("readers", "headstart.benchmarks.socket_client", stack)
            self._client.tell(msgspec.json.encode(Enter(self.standing.client_space)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def arms(self) -> list[Arm]:
        """Those that this machine can run."""
        missing = {
            arm for arm, control in _CONTROLS.items() if control not in self.standing.controls
        }
        return [arm for arm in Arm if arm not in missing]

    def door(self, arm: Arm) -> Door:
        """Where an arm's readers go."""
        return self._doors[SCHEMES.index("published" if arm is Arm.PUBLISHED else "snapshots")]

    def warm_up(self, setting: Setting, sample: SocketSample) -> None:
        """One short answer by every arm: loads what the first loads."""
        for arm in self.arms:
            self._ask(setting, arm, sample, [sample.seed_base], num_tokens=5)

    def block(self, setting: Setting, arm: Arm, sample: SocketSample, number: int) -> Block:
        """Read one answer for each seed, all at once."""
        seeds = sample.seeds(number)
        began, others_s = time.monotonic(), self._others_cpu_s()
        epoch, ports, shown = self._ask(setting, arm, sample, seeds, sample.num_tokens)
        took_s = time.monotonic() - began
        others = max(0.0, self._others_cpu_s() - others_s) / took_s
        crossed = self._order(Tell(), Crossed)
        passed = {each.port: each for each in crossed.flows}
        made = self.gateways.made([each.id for each in shown])
        answers = [
            scored(setting, seed, one, when, passed[port], epoch, sample)
            for seed, one, when, port in zip(seeds, shown, made, ports, strict=True)
        ]
        load = os.getloadavg()[0]
        return Block(answers, crossed.late_p99_s, crossed.num_swallowed, load, others)

    def _others_cpu_s(self) -> float:
        machine = psutil.cpu_times()
        used_s = sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice
        own_s = time.process_time()
        for process in self._link.arm.tree | self._client.arm.tree | self.gateways.tree:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                own_s += times.user + times.system
        return float(used_s - own_s)

    def connect_crowd(self, cell: str, count: int, seed: int) -> None:
        """Open connections of our datagrams' arm, each with a weather of its own from now on."""
        self._order(Begin([], 0.0), bool)
        ports = self._connect(Arm.OURS, count)
        epoch = time.monotonic()
        flows = [
            Flow(Arm.OURS.protocol, port, cell, seed + number, epoch)
            for number, port in enumerate(ports)
        ]
        self._order(Begin(flows, 0.0), bool)

    def tell_readers(self, order: msgspec.Struct) -> None:
        """Give the readers an order."""
        self._client.tell(msgspec.json.encode(order))

    def hear_readers(self, reply: type[Reply]) -> Reply:
        """Wait for their answer to it."""
        return self._client.hear(reply)

    def _connect(self, arm: Arm, count: int) -> list[int]:
        address = CLIENTS.get(_CONTROLS.get(arm, ""), "0.0.0.0")  # noqa: S104 - a client's
        self.tell_readers(Connect(arm, count, self.door(arm), address))
        return self.hear_readers(list[int])

    def _ask(
        self,
        setting: Setting,
        arm: Arm,
        sample: SocketSample,
        seeds: Sequence[int],
        num_tokens: int,
    ) -> tuple[float, list[int], list[Shown]]:
        one_way_s = setting.cell.rtt_s / 2
        self._order(Begin([], one_way_s), bool)
        ports = self._connect(arm, len(seeds))
        at = time.monotonic() + _START_S
        epoch = at + one_way_s
        flows = [
            Flow(arm.protocol, port, setting.name, seed, epoch)
            for port, seed in zip(ports, seeds, strict=True)
        ]
        self._order(Begin(flows, one_way_s), bool)
        patience_s = num_tokens / TOKENS_PER_S + sample.patience_s
        order = Ask(MODEL.name, num_tokens, at, patience_s, seeds[0] % 1000)
        self.tell_readers(order)
        return epoch, ports, self.hear_readers(list[Shown])

    def _started(self, name: str, module: str, stack: ExitStack) -> Child:
        child = Child(name, command(module, "serve"), self._folder / f"{name}.log")
        stack.callback(child.arm.stop)
        return child

    def _order(self, order: msgspec.Struct, reply: type[Reply]) -> Reply:
        self._link.tell(msgspec.json.encode(order))
        return self._link.hear(reply)
