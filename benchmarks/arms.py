"""Processes of the things compared: start, suspend, resume and stop a whole tree of them.

Only one arm runs at a time. The others are suspended, because engine processes poll busily even
when they have nothing to do; what they nevertheless used is on record.
"""

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from headstart.benchmarks.checks import Bar, Check, judge
from headstart.benchmarks.estimates import exactly
from headstart.benchmarks.report import Table

__all__ = ["Arm", "Rest", "Work", "rest_check", "table"]

GRACE_S = 60.0

_AT_REST = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
_STANDSTILL_S = 5.0


@dataclass(slots=True)
class Rest:
    """How long an arm was suspended, and what it used meanwhile."""

    num_blocks: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def share(self) -> float:
        """CPU seconds per second."""
        return _per(self.cpu_s, self.wall_s)


@dataclass(slots=True)
class Work:
    """How long an arm was measured, and what everyone used meanwhile."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    others_cpu_s: float = 0.0
    """Of processes that are neither the arm nor the benchmark: whoever disturbs it."""


class Arm:
    """A process and all that it started.

    Args:
        name: For tables and messages.
        argv: Program and arguments.
        log: Where its output goes.
        is_spoken_to: Keep pipes to its standard input and output, rather than log the latter.
    """

    def __init__(
        self, name: str, argv: Sequence[str], log: Path, *, is_spoken_to: bool = False
    ) -> None:
        self.name = name
        self.rest = Rest()
        self.work = Work()
        self.log = log
        self._known: set[psutil.Process] = set()
        pipe = subprocess.PIPE
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                argv,
                stdin=pipe if is_spoken_to else subprocess.DEVNULL,
                stdout=pipe if is_spoken_to else output,
                stderr=output,
                # Ctrl-C is the benchmark's; it stops its arms itself.
                start_new_session=True,
            )
        self._suspended_at: float | None = None
        self._cpu_when_suspended = 0.0

    @property
    def tree(self) -> set[psutil.Process]:
        """Everything the arm started and that still runs, orphans included once seen."""
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            self._known |= {root, *root.children(recursive=True)}
        self._known = {process for process in self._known if process.is_running()}
        return self._known

    def suspend(self) -> None:
        """Stop every process of the tree where it is."""
        stopped: set[psutil.Process] = set()
        # Whoever is not stopped yet may still start another.
        while fresh := self.tree - stopped:
            for process in fresh:
                _signal(process, signal.SIGSTOP)
            _await_standstill(fresh)
            stopped |= fresh
        self._cpu_when_suspended = self._cpu_s()
        self._suspended_at = time.monotonic()

    def resume(self) -> None:
        """Let the tree go on. Ignored unless it is suspended."""
        if self._suspended_at is None:
            return
        self.rest.num_blocks += 1
        self.rest.wall_s += time.monotonic() - self._suspended_at
        self.rest.cpu_s += self._cpu_s() - self._cpu_when_suspended
        self._suspended_at = None
        for process in self.tree:
            _signal(process, signal.SIGCONT)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Run the arm for the length of a block."""
        self.resume()
        began, cpu_s, machine_s, client_s = self._stamps()
        try:
            yield
        finally:
            self.suspend()
            ended, cpu_after_s, machine_after_s, client_after_s = self._stamps()
            used_s = cpu_after_s - cpu_s
            self.work.wall_s += ended - began
            self.work.cpu_s += used_s
            others_s = machine_after_s - machine_s - used_s - (client_after_s - client_s)
            self.work.others_cpu_s += max(0.0, others_s)

    def _stamps(self) -> tuple[float, float, float, float]:
        machine = psutil.cpu_times()
        idle_s = machine.idle + machine.iowait + machine.guest + machine.guest_nice
        return time.monotonic(), self._cpu_s(), sum(machine) - idle_s, time.process_time()

    def stop(self) -> None:
        """Ask the root to stop, wait, and kill whatever is left of the tree.

        The end of its standard input asks a root that is spoken to, a signal any other.
        """
        tree = self.tree
        for process in tree:
            _signal(process, signal.SIGCONT)
        self._suspended_at = None
        if self.process.stdin is not None:
            self.process.stdin.close()
        else:
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        for process in tree | self.tree:
            _signal(process, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def tail(self, num_lines: int = 15) -> str:
        """Return the end of the arm's output, for an error message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-num_lines:])

    def _cpu_s(self) -> float:
        total = 0.0
        for process in self.tree:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


def table(arms: Sequence[Arm]) -> Table:
    """What the arms used, awake and suspended, and what others did."""
    return Table(
        "Processor use; cores are CPU seconds per second",
        (
            *("arm", "awake_s", "awake_cores", "others_cores_meanwhile"),
            *("blocks", "suspended_s", "suspended_cpu_s", "suspended_cores"),
        ),
        tuple(
            (
                arm.name,
                arm.work.wall_s,
                _per(arm.work.cpu_s, arm.work.wall_s),
                _per(arm.work.others_cpu_s, arm.work.wall_s),
                arm.rest.num_blocks,
                arm.rest.wall_s,
                arm.rest.cpu_s,
                arm.rest.share,
            )
            for arm in arms
        ),
    )


def rest_check(arms: Sequence[Arm]) -> Check:
    """At most 1 % of a core for each arm while another is measured."""
    bar = Bar("suspended_cpu_share", 0.01, "lower", "cpu_s/s")
    return judge(bar, exactly(max(arm.rest.share for arm in arms)))


def _await_standstill(processes: set[psutil.Process]) -> None:
    """A signal is acted on when its process next gets a core; wait for that."""
    deadline = time.monotonic() + _STANDSTILL_S
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            while process.status() not in _AT_REST and time.monotonic() < deadline:
                time.sleep(0.001)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _per(amount: float, seconds: float) -> float:
    return amount / seconds if seconds else 0.0
