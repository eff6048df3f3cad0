"""Servers of real models at one end of a link that loses packets, and one client at the other."""

import secrets
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from headstart.benchmarks.child import Child, command
from headstart.benchmarks.journey_client import Features, Go, Meet
from headstart.benchmarks.journey_measured import Measured, Prompt, arm_name, measured, timing_in
from headstart.benchmarks.link_flows import Others
from headstart.benchmarks.lossy_link import Begin, Crossed, Standing, Tell
from headstart.benchmarks.network_spaces import SERVER, visiting
from headstart.benchmarks.servers import Server, start_headstart, start_vllm
from headstart.benchmarks.shipped_clients import Turn
from headstart.benchmarks.socket_orders import Enter
from headstart.configs.access import AccessSettings, KeySettings
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.stages.access import hash_of
from headstart.stages.errors import SetupError

__all__ = ["CELL", "JourneyRig", "plain"]

CELL = "random 10 %, RTT 100 ms"
ONE_WAY_S = 0.05
_TRIES = 3

Reply = TypeVar("Reply")


def plain(model: ModelSettings) -> ModelSettings:
    """The rival's model: vLLM as it comes."""
    return model.model_copy(update={"speculation": None})


class JourneyRig:
    """Everything that runs. A context manager.

    Both servers are in the network namespace at the link's one end; whoever is not measured is
    suspended.

    Args:
        settings: Of the daemon.
        model: Of both servers; `vllm serve` goes without its speculation.
        model_path: Where its weights are.
        folder: For logs.
    """

    def __init__(
        self, settings: Settings, model: ModelSettings, model_path: str, folder: Path
    ) -> None:
        gateway = settings.gateway.model_copy(update={"host": SERVER})
        quic = settings.quic.model_copy(update={"host": SERVER})
        # Whoever listens on a network has keys.
        self._key = f"hs-{secrets.token_urlsafe(32)}"
        access = AccessSettings(keys=(KeySettings(id="bench", hash=hash_of(self._key), live=True),))
        own = {"gateway": gateway, "quic": quic, "access": access}
        self._settings = settings.model_copy(update=own)
        self._model, self._model_path, self._folder = model, model_path, folder
        self._stack = ExitStack()
        self.servers: list[Server] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._link = self._started("link", "headstart.benchmarks.lossy_link", stack)
            self.standing = self._link.hear(Standing)
            if self.standing.kind == "tun":
                self._client = self._started("client", "headstart.benchmarks.journey_client", stack)
                self._client.tell(msgspec.json.encode(Enter(self.standing.client_space)))
                self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, features: Features | None, prompt: Prompt, num_tokens: int) -> Measured:
        """Have one arm answer one prompt; None is the rival.

        Raises:
            SetupError: No answer came whole.
        """
        failures: list[str] = []
        while len(failures) < _TRIES:
            found = self._try(features, prompt, num_tokens, failures)
            if isinstance(found, Measured):
                return found
            print(f"not whole: {found}", flush=True)
            failures.append(found)
        raise SetupError(f"no answer came whole in {_TRIES} tries: {'; '.join(failures)}")

    def _try(
        self, features: Features | None, prompt: Prompt, num_tokens: int, failures: list[str]
    ) -> Measured | str:
        server = self.servers[features is None]
        arm = arm_name(features)
        salt = f"{prompt.number} {arm} {len(failures)}"
        meet = Meet(server.url, server.model, features, self._key)
        weather = Others(CELL, prompt.seed + len(failures), time.monotonic())
        with server.arm.awake():
            self._order(Begin([], ONE_WAY_S, weather), bool)
            self._tell(meet)
            self._client.hear(bool)
            before = self._meters(server)
            self._tell(Go(prompt.text, list(prompt.strokes), num_tokens, salt))
            turn = self._client.hear(Turn)
            after = self._meters(server)
            crossed = self._order(Tell(), Crossed)
            shown = turn.shown
            if not shown.is_whole or not shown.at:
                return shown.why
            used = {name: value - before.get(name, 0.0) for name, value in after.items()}
            timing = timing_in(used) if features is None else self._asked(server, shown.id)
        return measured(prompt, arm, turn, timing, used, crossed, failures)

    def _start(self, stack: ExitStack) -> None:
        assert self.standing.server_space is not None
        with visiting(self.standing.server_space):
            print("starting the daemon", flush=True)
            self.servers.append(start_headstart(self._settings, self._model, self._folder))
            stack.callback(self.servers[-1].arm.stop)
            print("starting vLLM's own server", flush=True)
            rival = start_vllm(plain(self._model), self._model_path, self._folder, SERVER)
            self.servers.append(rival)
            stack.callback(self.servers[-1].arm.stop)

    def _started(self, name: str, module: str, stack: ExitStack) -> Child:
        child = Child(name, command(module, "serve"), self._folder / f"{name}.log")
        stack.callback(child.arm.stop)
        return child

    def _order(self, order: msgspec.Struct, reply: type[Reply]) -> Reply:
        self._link.tell(msgspec.json.encode(order))
        return self._link.hear(reply)

    def _tell(self, order: msgspec.Struct) -> None:
        self._client.tell(msgspec.json.encode(order))

    def _meters(self, server: Server) -> dict[str, float]:
        """Read a server's metrics from its own end of the link: series with labels, and values."""
        found: dict[str, float] = {}
        for line in self._get(f"{server.url}/metrics").decode().splitlines():
            if line.startswith(("headstart_live_", "vllm:")):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def _asked(self, server: Server, stream_id: str) -> dict[str, Any]:
        """What our gateway says of an answer."""
        said = self._get(f"{server.url}/v1/streams/{stream_id}/timing")
        timing: dict[str, Any] = msgspec.json.decode(said)
        return timing

    def _get(self, url: str) -> bytes:
        assert self.standing.server_space is not None
        asked = urllib.request.Request(url, headers={"authorization": f"Bearer {self._key}"})  # noqa: S310 - our own
        with (
            visiting(self.standing.server_space),
            urllib.request.urlopen(asked, timeout=10) as answer,  # noqa: S310
        ):
            return bytes(answer.read())
