"""Link, gateways and readers of a run on real sockets, and one block of answers over them."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from headstart.benchmarks.link_flows import Flow, Others
from headstart.benchmarks.lossy_link import Begin, Crossed, Tell
from headstart.benchmarks.network_spaces import CLIENTS
from headstart.benchmarks.shipped_clients import AskAgain, Client, Turn
from headstart.benchmarks.socket_cells import TOKENS_PER_S, SocketSample
from headstart.benchmarks.socket_client import Ask, Connect
from headstart.benchmarks.socket_ends import Ends
from headstart.benchmarks.socket_orders import SCHEMES, Door, Made, model
from headstart.benchmarks.socket_readers import Arm, Shown
from headstart.benchmarks.socket_scores import Block, scored
from headstart.benchmarks.transport_grid import Setting
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings

__all__ = ["MODEL", "Rig"]

MODEL = model("paced", TOKENS_PER_S)
_START_S = 0.3
"""Between the last connection and the first request."""
_SPREAD_S = 1.0
_PAUSE_S = 1.0
_CONTROLS = {Arm.CUBIC: "cubic", Arm.BBR: "bbr"}
_SCHEME_OF = {Arm.PUBLISHED: "published", Arm.STREAM: "stream"}
"""`quic.scheme` of an arm's gateway, where it is not the first."""


class Rig(Ends):
    """Everything that runs, with readers that are programs. A context manager.

    Args:
        settings: Of the gateways.
        models: What they serve.
        folder: For logs.
    """

    def __init__(self, settings: Settings, models: Sequence[ModelSettings], folder: Path) -> None:
        super().__init__(settings, models, folder, "headstart.benchmarks.socket_client")

    @property
    def arms(self) -> list[Arm]:
        """Those that this machine can run."""
        missing = {
            arm for arm, control in _CONTROLS.items() if control not in self.standing.controls
        }
        return [arm for arm in Arm if arm not in missing]

    def door(self, arm: Arm) -> Door:
        """Where an arm's readers go."""
        return self.doors[SCHEMES.index(_SCHEME_OF.get(arm, "snapshots"))]

    def warm_up(self, setting: Setting, sample: SocketSample) -> None:
        """One short answer by every arm: loads what the first loads."""
        for arm in self.arms:
            self._ask(setting, arm, sample, [sample.seed_base], num_tokens=5)

    def block(self, setting: Setting, arm: Arm, sample: SocketSample, number: int) -> Block:
        """Read one answer for each seed, all at once."""
        seeds = sample.seeds(number)
        others_cores = self.others_cores()
        epoch, ports, shown = self._ask(setting, arm, sample, seeds, sample.num_tokens)
        others = others_cores()
        crossed = self.order(Tell(), Crossed)
        passed = {each.port: each for each in crossed.flows}
        made = self.gateways.made([each.id for each in shown])
        answers = [
            scored(setting, seed, one, when, passed[port], epoch, sample)
            for seed, one, when, port in zip(seeds, shown, made, ports, strict=True)
        ]
        load = os.getloadavg()[0]
        return Block(answers, crossed.late_p99_s, crossed.num_swallowed, load, others)

    def ask_again(
        self, setting: Setting, client: Client, sample: SocketSample, number: int
    ) -> tuple[list[list[Turn]], list[Made], Crossed, float]:
        """Have clients ask, and ask again, with weather from their first packet on.

        Returns: What came, when all of it was made, what crossed the link, others' busy cores.
        """
        door, seeds = self.door(Arm.OURS), sample.seeds(number)
        weather = Others(setting.name, seeds[0], time.monotonic())
        self.order(Begin([], setting.cell.rtt_s / 2, weather), bool)
        others_cores = self.others_cores()
        self.tell_readers(
            AskAgain(
                client,
                f"http://{door.host}:{door.port}",
                MODEL.name,
                sample.num_tokens,
                sample.num_lanes,
                _SPREAD_S,
                _PAUSE_S,
                sample.answer_s + sample.patience_s,
                seeds[0] % 1000,
            )
        )
        turns = self.hear_readers(list[list[Turn]])
        others, crossed = others_cores(), self.order(Tell(), Crossed)
        made = self.gateways.made([turn.shown.id for both in turns for turn in both])
        return turns, made, crossed, others

    def connect_crowd(self, cell: str, count: int, seed: int) -> None:
        """Open connections of our datagrams' arm, each with a weather of its own from now on."""
        self.order(Begin([], 0.0), bool)
        ports = self._connect(Arm.OURS, count)
        epoch = time.monotonic()
        flows = [
            Flow(Arm.OURS.protocol, port, cell, seed + number, epoch)
            for number, port in enumerate(ports)
        ]
        self.order(Begin(flows, 0.0), bool)

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
        self.order(Begin([], one_way_s), bool)
        ports = self._connect(arm, len(seeds))
        at = time.monotonic() + _START_S
        epoch = at + one_way_s
        flows = [
            Flow(arm.protocol, port, setting.name, seed, epoch)
            for port, seed in zip(ports, seeds, strict=True)
        ]
        self.order(Begin(flows, one_way_s), bool)
        patience_s = num_tokens / TOKENS_PER_S + sample.patience_s
        order = Ask(MODEL.name, num_tokens, at, patience_s, seeds[0] % 1000)
        self.tell_readers(order)
        return epoch, ports, self.hear_readers(list[Shown])
