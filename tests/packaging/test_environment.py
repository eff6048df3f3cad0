"""The committed lock is complete and pinned, and the environment is what it says."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "locks/cpu.txt").read_text()
PINS = {name: Version(pin) for name, pin in re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE)}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_lock_pins_every_package_with_hashes_and_names_no_address() -> None:
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    assert len(entries) == len(PINS)
    for entry in entries:
        assert re.fullmatch(
            r"[a-z0-9-]+==\S+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", entry
        ), entry
    assert "://" not in LOCK


def test_lock_meets_the_project_file() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["server"], *extras["cpu"], *extras["dev"]]
    for requirement in map(Requirement, wanted):
        if requirement.name != "headstart":
            pin = PINS[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pin, prereleases=True), requirement


def test_environment_is_the_lock() -> None:
    assert {name: Version(metadata.version(name)) for name in PINS} == PINS


@pytest.mark.parametrize("name", ["torchvision", "torchaudio", "torchcodec", "llm"])
def test_what_no_text_model_needs_is_absent(name: str) -> None:
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.distribution(name)


def test_only_the_set_up_script_names_a_package_index() -> None:
    index = re.compile(
        r"download\.pytorch\.|pypi\.org/simple|--(extra-)?index-url|--find-links \S*/"
    )
    files = [ROOT / "Makefile", ROOT / ".ci/run", *ROOT.glob("*.*")]
    for folder in ROOT.glob("[!.]*/"):
        files += folder.rglob("*") if folder.name != "tests" else []
    naming = {
        file.relative_to(ROOT).as_posix()
        for file in files
        if file.suffix in {"", ".md", ".py", ".sh", ".toml", ".txt", ".yaml"}
        and file.is_file()
        and index.search(file.read_text())
    }
    assert naming == {"scripts/setup.sh"}
