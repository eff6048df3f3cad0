"""A daemon whose parts are killed, and how long they take to come back."""

import asyncio
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from headstart.benchmarks.fault_readers import ask, chat
from headstart.benchmarks.scraped import total
from headstart.benchmarks.servers import ENGINE_CORE, launch_headstart, wait_until_ready
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.stages.errors import SetupError

__all__ = ["FaultyDaemon"]

_LOOK_S = 0.05
_HEAL_S = 180.0


class FaultyDaemon:
    """`headstart serve` with one model.

    Args:
        settings: All else.
        model: What it serves.
        folder: For its configuration and its log.
    """

    def __init__(self, settings: Settings, model: ModelSettings, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.model = model
        self.arm, _, port = launch_headstart(settings, (model,), folder)
        self.address = ("127.0.0.1", port)
        self.num_lies = 0
        """Times that `/readyz` said yes and an answer said no."""
        try:
            wait_until_ready(self.arm, f"http://127.0.0.1:{port}/readyz")
        except BaseException:
            self.arm.stop()
            raise

    def replicas(self) -> list[psutil.Process]:
        """Processes that are replicas, the oldest first."""
        found = [one for one in self.arm.tree if "ServeReplica" in _name(one)]
        return sorted(found, key=lambda process: process.create_time())

    def num_engines(self) -> int:
        """Processes of vLLM that compute, orphans included."""
        return sum(_name(one).startswith(ENGINE_CORE) for one in self.arm.tree)

    def gateway(self) -> psutil.Process:
        """The gateway's process."""
        (found,) = (one for one in self.arm.tree if "headstart gateway" in _name(one))
        return found

    def rss_bytes(self) -> int:
        """Resident memory of the gateway and the replicas."""
        total = 0
        for process in (self.gateway(), *self.replicas()):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def gauge(self, name: str, *labels: str) -> float:
        """Sum of the series of a metric whose line holds every one of `labels`."""
        return total(self._get("/metrics")[1], name, *labels)

    def is_ready(self) -> bool:
        """What `/readyz` says."""
        return self._get("/readyz")[0] == 200

    async def healed(self, since: float) -> float:
        """Wait until every replica is linked; seconds since then on the monotonic clock."""
        await self.until(lambda: self.num_linked() >= self.model.replicas)
        return time.monotonic() - since

    def num_linked(self) -> float:
        """Replicas that the gateway is linked to, a quarter of a second ago at the worst."""
        return self.gauge("headstart_replicas", 'state="up"')

    async def answers_again(self, since: float) -> float:
        """Wait until `/readyz` says yes and that is true; seconds since then."""
        while True:
            await self.until(self.is_ready)
            body = chat(self.model.name, "Are you there?", 1, is_stream=False)
            with suppress(OSError):
                if (await ask(self.address, "POST", "/v1/chat/completions", body)).status == 200:
                    return time.monotonic() - since
            self.num_lies += 1

    async def listens_again(self, since: float) -> float:
        """Wait until the gateway answers anything; seconds since then."""
        await self.until(lambda: self._get("/healthz")[0] == 200)
        return time.monotonic() - since

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something.

        Raises:
            SetupError: It does not come, or the daemon has ended.
        """
        deadline = time.monotonic() + _HEAL_S
        while not await asyncio.to_thread(condition):
            if self.arm.process.poll() is not None or time.monotonic() > deadline:
                raise SetupError(f"the daemon did not recover:\n{self.arm.tail()}")
            await asyncio.sleep(_LOOK_S)

    def kill(self, process: psutil.Process) -> float:
        """Kill a process as the kernel would; return when, on the monotonic clock."""
        now = time.monotonic()
        process.send_signal(signal.SIGKILL)
        return now

    def _get(self, path: str) -> tuple[int, str]:
        host, port = self.address
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline()) or process.name()
    return ""
