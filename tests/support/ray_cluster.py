"""A Ray cluster that somebody else started, on ports of its own, with a token, and what is in it.

with ray_cluster() as cluster:
    settings = f"ray.address={cluster.address}"
    cluster.applications()
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

__all__ = ["Cluster", "ray_cluster"]

_PATIENCE_S = 90.0
_ENVIRON = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
_ASK = """
import json, sys, logging, ray
from ray import serve
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
print(json.dumps(sorted(serve.status().applications)))
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster of one node."""

    address: str
    token: str = ""
    """Without it nobody gets in."""

    def applications(self) -> list[str]:
        """Names of the Serve applications in it, asked by another driver."""
        done = subprocess.run(
            [sys.executable, "-c", _ASK, self.address],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
            env=os.environ | _ENVIRON | _identity(self.token),
        )
        assert done.returncode == 0, done.stderr
        found: list[str] = json.loads(done.stdout.splitlines()[-1])
        return found


@contextmanager
def ray_cluster() -> Iterator[Cluster]:
    """Start a cluster without GPUs that lives as long as the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = secrets.token_hex(32)
    # Not pytest's folder: the paths of Ray's sockets would be too long.
    folder = tempfile.mkdtemp(prefix="ray")
    options = {
        "port": port,
        "node-ip-address": "127.0.0.1",
        "num-cpus": 2,
        "num-gpus": 0,
        "object-store-memory": 80 << 20,
        "include-dashboard": "false",
        "dashboard-agent-listen-port": 0,
        "temp-dir": folder,
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    script = Path(sys.executable).with_name("ray")
    with (Path(folder) / "output").open("w") as output:
        process = subprocess.Popen(
            [script, "start", "--head", "--block", "--disable-usage-stats", *flags],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | _ENVIRON | _identity(token),
            start_new_session=True,
        )
        family: set[psutil.Process] = set()
        try:
            _wait_until_started(process, Path(folder) / "output")
            yield Cluster(f"127.0.0.1:{port}", token)
        finally:
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(process.pid)
                family.update((root, *root.children(recursive=True)))
            for one in psutil.process_iter():
                with suppress(psutil.Error):
                    if any(folder in word for word in one.cmdline()):
                        family.add(one)
            for one in family:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()
            psutil.wait_procs(family, 10)
            shutil.rmtree(folder, ignore_errors=True)


def _identity(token: str) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


def _wait_until_started(process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    pause = threading.Event()
    while "Ray runtime started" not in output.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"Ray did not start:\n{output.read_text()}")
        pause.wait(0.1)
