"""A daemon that others may reach: keys from a file, TLS, and a warning where that is missing."""

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from tests.support.certificates import make_certificate
from tests.support.daemon import Daemon, running

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def new_key(name: str, folder: Path) -> str:
    """Make a key as a user does, and add its entry to the file of keys."""
    made = subprocess.run(
        [Path(sys.executable).with_name("headstart"), "keys", "new", name],
        capture_output=True,
        text=True,
        check=True,
    )
    with (folder / "keys.yaml").open("a") as entries:
        entries.write(made.stdout)
    return made.stderr.split("\n")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_certificate(tmp_path)
    return tmp_path


@pytest.fixture
def keys(folder: Path) -> list[str]:
    return [new_key(name, folder) for name in ("alice", "bob")]


@pytest.fixture
def daemon(folder: Path, keys: list[str]) -> Iterator[Daemon]:
    settings = (
        "gateway.host=0.0.0.0",
        f"access.keys_file={folder}/keys.yaml",
        f"gateway.tls_cert_file={folder}/localhost.crt",
        f"gateway.tls_key_file={folder}/localhost.key",
    )
    with running("fake", folder, *settings) as daemon:
        daemon.wait_until_ready()
        yield daemon


def test_official_client_needs_the_certificate_and_a_key(
    daemon: Daemon, folder: Path, keys: list[str]
) -> None:
    assert daemon.url.startswith("https://127.0.0.1:")
    assert "authorization: Bearer KEY" in daemon.out
    assert "in_clear" not in daemon.err
    trusting = ssl.create_default_context(cafile=str(folder / "localhost.crt"))
    url = f"{daemon.url}/v1"
    with openai.DefaultHttpxClient(trust_env=False, verify=trusting) as http:
        for key in keys:
            client = OpenAI(base_url=url, api_key=key, http_client=http)
            answer = client.completions.create(model="fake", prompt="Hi", max_tokens=3)
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 3
        with pytest.raises(openai.AuthenticationError):
            OpenAI(base_url=url, api_key="hs-mallory", http_client=http).models.list()
    assert not [key for key in keys if key in daemon.out + daemon.err]


def test_keys_in_clear_are_warned_of(folder: Path, keys: list[str]) -> None:
    assert keys
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = (
            "gateway.host=0.0.0.0",
            f"gateway.port={port}",
            f"access.keys_file={folder}/keys.yaml",
        )
        with running("fake", folder, *settings) as daemon:
            assert daemon.ended(time.monotonic(), 30.0).status == 2
            assert "keys_and_prompts_travel_in_clear" in daemon.err
            assert "gateway.tls_cert_file" in daemon.err
