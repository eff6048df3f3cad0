"""The wheel holds the packages and their data, whole, and nothing else; its base install works."""

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = {
    name: ROOT / folder for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items()
}
NOT_SHIPPED = {".md", ".pyc"}
"""Files of a package that are for readers of the repository only."""


DRAWN_ADAPTER = "headstart/cluster/adapters/drawn-by-a-test"
DRAWN = {
    *(f"{DRAWN_ADAPTER}/{name}" for name in ("adapter_config.json", "adapter_model.safetensors")),
    *(f"{DRAWN_ADAPTER}/{name}" for name in ("training.json", "trained_on.json")),
    "headstart/cluster/drafters/drawn-by-a-test/de.table",
}
"""Of the kinds of files that recipes make and that come with Headstart."""


def _write_adapter(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = {
        f"{layer}.lora_{n}.weight": torch.ones(s) for n, s in (("A", (2, 64)), ("B", (64, 2)))
    }
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "BASE"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nheadstart: {block_tokens: 8}\n---\n# Drawn\n")
    (folder / "training.json").write_text('{"block_tokens": 8}')
    (folder / "trained_on.json").write_text("{}")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the tree and nothing of it leaks in."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in PACKAGES.values():
        shutil.copytree(folder, tree / folder.name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in DRAWN:
        file = tree / name.removeprefix("headstart/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    _write_adapter(tree / DRAWN_ADAPTER.removeprefix("headstart/"))
    out = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", f"--wheel-dir={out}"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(tree)], check=True)
    [path] = out.glob("*.whl")
    return path


def _shipped(package: str) -> Iterator[str]:
    folder = PACKAGES[package]
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix not in NOT_SHIPPED:
            yield f"{package.replace('.', '/')}/{file.relative_to(folder).as_posix()}"


def test_every_folder_with_code_is_a_package() -> None:
    assert {file.parent for file in ROOT.glob("*/__init__.py")} == set(PACKAGES.values())
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == set(PACKAGES)
    assert not list(ROOT.glob("__init__.py"))
    for folder in PACKAGES.values():
        assert (folder / "py.typed").exists()
        assert not list(folder.glob("*/**/*.py")), "packages have no sub-packages"


def test_wheel_holds_every_module_and_data_file_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == DRAWN | {name for package in PACKAGES for name in _shipped(package)}


def test_an_adapter_in_the_wheel_is_a_built_in_model_with_its_block_length(
    wheel: Path, tiny_model: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    config = site / DRAWN_ADAPTER / "adapter_config.json"
    config.write_text(config.read_text().replace("BASE", str(tiny_model)))
    code = FROM_THE_WHEEL + (
        "from pathlib import Path\n"
        "from headstart.cluster.model_source import resolve\n"
        "from headstart.cluster.parallel_drafter import plan_of\n"
        "from headstart.configs.speculation import SpeculationSettings\n"
        "folder = resolve('builtin:drawn-by-a-test', Path(sys.argv[0]))\n"
        "print(plan_of(SpeculationSettings(), folder)['block_tokens'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(site), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.stdout.split() == ["8"], run.stderr


FROM_THE_WHEEL = (
    # The wheel's copy has to win over the tree's, which is installed by an import hook.
    "import sys; sys.meta_path = [one for one in sys.meta_path"
    " if 'editable' not in getattr(one, '__module__', '') + getattr(one, '__name__', '')];"
    "sys.path.insert(0, sys.argv.pop(1)); del sys.argv[0];"
    "import headstart.configs.settings as there; assert there.__file__.startswith(sys.path[0])\n"
)
"""Of a program whose first argument is where the wheel was unpacked."""

OF_THE_QUIC_EXTRA = {
    "quic_carrier",
    "quic_framing",
    "quic_congestion",
    "quic_connect",
    "quic_session",
    "webtransport",
}
"""Modules of `headstart.client` that whoever reads by datagrams installs aioquic for."""


def test_wheel_carries_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [licence] = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_base_install_imports_client_stages_configs_and_the_command(
    wheel: Path, tmp_path: Path
) -> None:
    """Only the wheel, the standard library and what the base install requires are on the path."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for distribution in _required(PROJECT["project"]["dependencies"]):
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            (site / name).symlink_to(str(distribution.locate_file(name)))
    modules = ["headstart.pipeline.cli"]
    for package in ("headstart.client", "headstart.stages", "headstart.configs"):
        stems = {file.stem for file in PACKAGES[package].glob("*.py")} - OF_THE_QUIC_EXTRA
        modules += [f"{package}.{stem}" for stem in stems]
    code = "import sys, importlib; sys.path.append(sys.argv[1])\n"
    code += "for name in sys.argv[2:]: importlib.import_module(name.removesuffix('.__init__'))\n"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(site), *modules],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def _required(requirements: list[str]) -> Iterator[metadata.Distribution]:
    """The distributions that pip would install for `requirements`."""
    pending, seen = [*requirements], set[str]()
    while pending:
        requirement = Requirement(pending.pop())
        name = canonicalize_name(requirement.name)
        is_wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_wanted and name not in seen:
            seen.add(name)
            distribution = metadata.distribution(requirement.name)
            pending += distribution.requires or []
            yield distribution


def test_installed_wheel_has_a_command_that_shows_settings_and_examines(
    wheel: Path, tmp_path: Path
) -> None:
    """Installed by pip, from another folder, beside the packages that this environment has."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(wheel)],
        check=True,
    )
    script = site / "bin/headstart"
    code = FROM_THE_WHEEL + "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, str(site), str(script), *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=elsewhere,
        )

    shown = run("config")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "builtin:smollm2-135m-instruct" in shown.stdout
    ports = ["--set", "gateway.port=0", "--set", "ray.metrics_export_port=0"]
    fake = ["--set", "models=[{name: fake, engine: fake}]"]
    found = run("doctor", *ports, *fake)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "problem" not in found.stdout
