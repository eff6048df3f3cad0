"""The whole daemon as a user starts it, and everything it starts in turn.

with running("fake", tmp_path) as daemon:
    daemon.wait_until_ready()
    httpx.get(f"{daemon.url}/healthz")
    ended = daemon.stop(signal.SIGTERM)
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

__all__ = ["Daemon", "Ended", "profile", "running"]

_MARK = "TEST_DAEMON"
"""Inherited by every process that the daemon starts, wherever it ends up in the tree."""
_GONE_WITHIN_S = 15.0
_GLANCE_S = 0.2
"""Between two looks at it: each costs a few milliseconds, which it needs itself."""
_READY = re.compile(r"Headstart is ready after .*: (https?://\S+)/v1\n")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a daemon ended."""

    status: int
    """Exit status; minus a signal's number if that killed it."""
    exit_s: float
    """Seconds from the signal to the daemon's exit."""
    gone_s: float
    """Seconds from the signal until nothing was left."""
    left: list[str]
    """What was still there 15 s after the daemon's exit."""


class Daemon:
    """A `headstart serve` and its descendants."""

    def __init__(self, process: subprocess.Popen[bytes], mark: str, folder: Path) -> None:
        self._process = process
        self._mark = mark
        self._folder = folder
        self._family: set[psutil.Process] = set()

    @property
    def out(self) -> str:
        """What it has written to standard output."""
        return (self._folder / "out").read_text()

    @property
    def err(self) -> str:
        """What it has written to standard error."""
        return (self._folder / "err").read_text()

    @property
    def url(self) -> str:
        """Where it says that it answers."""
        found = _READY.search(self.out)
        assert found is not None, self.out
        return found[1]

    def wait_until_ready(self, within_s: float = 240.0) -> None:
        """Wait until it says that it is ready."""
        self.wait_for(lambda: _READY.search(self.out) is not None, "become ready", within_s)

    def wait_for_line(self, text: str, within_s: float = 120.0) -> None:
        """Wait until it has written `text` to standard output."""
        self.wait_for(lambda: text in self.out, f"write {text!r}", within_s)

    def wait_for(self, condition: Callable[[], bool], what: str, within_s: float) -> None:
        """Wait for something while it runs."""
        deadline = time.monotonic() + within_s
        pause = threading.Event()
        while not condition():
            self.family()
            if (status := self._process.poll()) is not None or time.monotonic() > deadline:
                why = "in time" if status is None else f"before it ended with {status}"
                pytest.fail(f"the daemon did not {what} {why}:\n{self.out}\n{self.err[-4000:]}")
            pause.wait(_GLANCE_S)

    def family(self) -> set[psutil.Process]:
        """Return every process of it that was ever seen, itself included."""
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            self._family.update((root, *root.children(recursive=True)))
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark:
                    self._family.add(process)
        return set(self._family)

    def living(self) -> list[psutil.Process]:
        """Return every process of it that there is now, itself included."""
        return _living(self.family())

    @property
    def ray_logs(self) -> Path:
        """Where the Ray that it started writes."""
        words = self.child("raylet/raylet").cmdline()
        (session,) = (word for word in words if word.startswith("--session_dir="))
        return Path(session.partition("=")[2]) / "logs"

    def child(self, name: str) -> psutil.Process:
        """Return the living process with `name` in its command line."""
        (found,) = (process for process in self.living() if name in _describe(process))
        return found

    def stop(self, number: signal.Signals, within_s: float = 60.0) -> Ended:
        """Send it a signal and wait until it and everything it started is gone."""
        self.family()
        began = time.monotonic()
        self._process.send_signal(number)
        return self.ended(began, within_s)

    def stop_group(self, number: signal.Signals) -> Ended:
        """Send a signal to its process group, as a terminal does."""
        self.family()
        began = time.monotonic()
        os.killpg(self._process.pid, number)
        return self.ended(began)

    def ended(self, began: float, within_s: float = 60.0) -> Ended:
        """Wait until it ends by itself, as since `began` on the monotonic clock it should."""
        self.wait_for_exit(within_s)
        exited = time.monotonic()
        _, left = psutil.wait_procs(self.living(), _GONE_WITHIN_S)
        return Ended(
            self._process.returncode,
            exited - began,
            time.monotonic() - began,
            sorted(map(_describe, _living(left))),
        )

    def wait_for_exit(self, within_s: float) -> None:
        """Wait for the daemon itself, with an eye on what it starts meanwhile."""
        deadline = time.monotonic() + within_s
        while True:
            self.family()
            try:
                self._process.wait(_GLANCE_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                pytest.fail(
                    f"the daemon did not end in {within_s} s; still there:\n"
                    f"{self._roll_call()}\n{self.err[-4000:]}"
                )
            return

    def _roll_call(self) -> str:
        """One line for each living process of it: what it is and what it does."""
        return "\n".join(sorted(map(_state, self.living())))

    def kill(self) -> None:
        """Leave nothing behind, whatever has happened."""
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()


@contextmanager
def running(
    config: str | Path,
    folder: Path,
    *overrides: str,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Daemon]:
    """Start the daemon through the console script.

    Args:
        config: Name of a shipped profile, or a file.
        folder: For its output.
        overrides: As after `--set`, on top of ports that nothing else uses.
        environ: Further variables of its environment.
    """
    mark = uuid.uuid4().hex
    settings = ["gateway.port=0", "ray.metrics_export_port=0", *overrides]
    flags = [word for setting in settings for word in ("--set", setting)]
    script = Path(sys.executable).with_name("headstart")
    path = config if isinstance(config, Path) else profile(config)
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [script, "serve", "--config", path, *flags],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **(environ or {}), _MARK: mark},
            # A Ctrl-C meant for the tests is not meant for it.
            start_new_session=True,
        )
    daemon = Daemon(process, mark, folder)
    try:
        yield daemon
    finally:
        daemon.kill()


def profile(name: str) -> Path:
    """Return the path of a shipped profile."""
    return Path(__file__).parents[2] / "configs" / f"{name}.yaml"


def _living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _state(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        with process.oneshot():
            parent, status, cpu = process.ppid(), process.status(), sum(process.cpu_times()[:2])
        return f"{process.pid} of {parent}, {status}, {cpu:.1f} s of CPU: {_describe(process)}"
    return f"{process.pid}: gone meanwhile"


def _describe(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline()) or process.name()
    return f"process {process.pid}"
