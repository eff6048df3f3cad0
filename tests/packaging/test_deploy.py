"""What is in deploy/ fits the project: neither an image is built nor a service started here."""

import configparser
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from headstart.configs.serving import GatewaySettings
from headstart.pipeline.cli import main

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "deploy/Containerfile").read_text()
UNIT = ROOT / "deploy/headstart.service"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PREFIX = "/opt/headstart"
VERBS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN"}
VERBS |= {"STOPSIGNAL", "USER", "WORKDIR"}


def instructions() -> list[tuple[str, str]]:
    """Each instruction and its words, continued lines joined."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    found = [line.strip().partition(" ") for line in text.splitlines() if line.strip()]
    return [(verb, " ".join(rest.split())) for verb, _, rest in found]


def words(verb: str) -> list[str]:
    return [rest for one, rest in instructions() if one == verb]


def form(verb: str) -> list[str]:
    """The words of the only instruction of its kind in JSON form."""
    (rest,) = words(verb)
    found: list[str] = json.loads(rest[rest.index("[") :])
    return found


def test_every_line_is_an_instruction() -> None:
    assert {verb for verb, _ in instructions()} <= VERBS


def test_everything_that_is_copied_exists_and_every_package_is_copied() -> None:
    copied = [line.split() for line in words("COPY") if not line.startswith("--from")]
    sources = {source for line in copied for source in line[:-1]}

    assert all((ROOT / source).exists() for source in sources)
    assert set(PROJECT["tool"]["setuptools"]["package-dir"].values()) <= sources
    assert {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} <= sources
    # What set-up reads.
    assert {"pyproject.toml", "locks", "scripts", "configs"} <= sources


def test_image_is_built_in_stages_and_runs_without_root() -> None:
    assert len(words("FROM")) == 2
    last = [verb for verb, _ in instructions()]
    after = instructions()[len(last) - 1 - last[::-1].index("FROM") :]
    assert [rest for verb, rest in after if verb == "USER"] == ["headstart"]
    assert not [rest for verb, rest in after if verb == "RUN" and "pip" in rest]


def test_environment_is_made_at_the_path_where_it_runs() -> None:
    assert words("WORKDIR")[0] == PREFIX
    assert f"--from=build {PREFIX} {PREFIX}" in words("COPY")
    assert form("ENTRYPOINT")[-1] == f"{PREFIX}/.venv/bin/headstart"


def test_what_it_calls_is_there() -> None:
    (run,) = (rest for rest in words("RUN") if "DEVICE" in rest)
    for device in PROJECT["project"]["optional-dependencies"].keys() & {"cpu", "gpu"}:
        assert f"{device})" in run
    assert "scripts/setup.sh ;;" in run
    assert (ROOT / "scripts/setup.sh").stat().st_mode & 0o100
    verb, flag, config = form("CMD")
    assert (verb, flag) == ("serve", "--config")
    assert (ROOT / Path(config).relative_to(PREFIX)).exists()


def test_health_is_asked_of_the_port_and_route_that_there_are() -> None:
    code = form("HEALTHCHECK")[-1]
    port = GatewaySettings().port

    compile(code, "healthcheck", "exec")
    assert f"http://127.0.0.1:{port}/readyz" in code
    assert str(port) in words("EXPOSE")[0].split()
    assert 'Route("/readyz"' in (ROOT / "pipeline/app.py").read_text()


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser


def test_only_the_daemon_is_told_to_stop_and_given_time() -> None:
    service = unit()["Service"]

    assert service["KillMode"] == "mixed"
    assert float(service["TimeoutStopSec"]) > GatewaySettings().shutdown_grace_s + 20
    assert service["RestartPreventExitStatus"] == "2"


@pytest.mark.parametrize("key", ["ExecStart", "ExecStartPre"])
def test_unit_runs_verbs_that_there_are(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    # A minus lets the unit go on where that program finds fault.
    program, verb, flag, _ = unit()["Service"][key].removeprefix("-").split()

    assert program == f"{PREFIX}/.venv/bin/headstart"
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert flag in capsys.readouterr().out


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # It looks for the program and the user, which are not on this machine.
    text = UNIT.read_text().replace(f"{PREFIX}/.venv/bin/headstart", "/bin/true")
    text = re.sub(r"^(User|Group)=.*$", r"\1=root", text, flags=re.MULTILINE)
    copy = tmp_path / "headstart.service"
    copy.write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
