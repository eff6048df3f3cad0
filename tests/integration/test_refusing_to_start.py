"""What cannot work is said at once, in one line that names the fix, and nothing is left running."""

import json
import shutil
import socket
import time
from pathlib import Path

import pytest
import yaml

from tests.support.daemon import Daemon, profile, running

pytestmark = pytest.mark.timeout(600)

SECONDS = 30.0
"""Two, when nothing else keeps the machine busy; Python and Ray being imported take most of it."""


def check(daemon: Daemon, *words: str) -> None:
    """It ends by itself with status 2 and one line of error, and nothing is left."""
    ended = daemon.ended(time.monotonic(), SECONDS)

    assert (ended.status, ended.left) == (2, [])
    assert len(daemon.err.splitlines()) == 1, daemon.err
    line = daemon.err.rstrip()
    assert line.startswith("error: ")
    assert all(word in line for word in words), line
    assert "ready" not in daemon.out


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running("fake", tmp_path, f"gateway.port={port}") as daemon:
            check(daemon, "gateway.port", str(port), "in use")


def test_unknown_setting(tmp_path: Path) -> None:
    with running("fake", tmp_path, "gateway.prot=1") as daemon:
        check(daemon, "gateway.prot", "unknown key")


def test_impossible_value(tmp_path: Path) -> None:
    with running("fake", tmp_path, "gateway.max_streams=0") as daemon:
        check(daemon, "gateway.max_streams")


def test_open_address_without_a_key(tmp_path: Path) -> None:
    with running("fake", tmp_path, "gateway.host=0.0.0.0") as daemon:
        check(daemon, "gateway.host", "loopback", "headstart keys new")


def test_certificate_that_is_none(tmp_path: Path) -> None:
    pem = tmp_path / "cert.pem"
    pem.write_text("Hello!")
    files = (f"gateway.{name}={pem}" for name in ("tls_cert_file", "tls_key_file"))
    with running("fake", tmp_path, *files) as daemon:
        check(daemon, "gateway.tls_cert_file", str(pem), "no certificate in PEM form")


def test_core_that_is_not_here(tmp_path: Path) -> None:
    with running("fake", tmp_path, "models.0.cores=['4000']") as daemon:
        check(daemon, "models.fake.cores names 4000", "may use 0")


def test_no_such_file(tmp_path: Path) -> None:
    with running(tmp_path / "nowhere.yaml", tmp_path) as daemon:
        check(daemon, "nowhere.yaml")


@pytest.mark.parametrize("content", [None, "config.json"])
def test_folder_that_holds_no_model(tmp_path: Path, content: str | None) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    folder = tmp_path / "model"
    if content is not None:
        folder.mkdir()
        (folder / content).write_text("{}")
    tree = yaml.safe_load(profile("laptop").read_text())
    tree["models"][0]["source"] = str(folder)
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(tree))

    with running(config, tmp_path) as daemon:
        check(daemon, str(folder))


@pytest.mark.parametrize("head", ["headstart: {block_tokens: many}", "headstart: ["])
def test_card_that_cannot_be_read(tiny_model: Path, tmp_path: Path, head: str) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    folder = tmp_path / "tuned"
    shutil.copytree(tiny_model, folder)
    (folder / "README.md").write_text(f"---\n{head}\n---\n")
    config = tmp_path / "settings.yaml"
    config.write_text(json.dumps({"models": [{"name": "tuned", "source": str(folder)}]}))

    with running(config, tmp_path) as daemon:
        check(daemon, "README.md")
        assert "starting Ray" not in daemon.out
