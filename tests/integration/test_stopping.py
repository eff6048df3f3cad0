"""The daemon goes when it is told to, at any moment, and takes along everything it started.

What a terminal's Ctrl-C does to one that has answered for a while: test_daemon.py, at its end.
"""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.daemon import Daemon, Ended, running
from tests.support.events import text
from tests.support.real_model import real_model

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SOON_S = 15.0


def check(ended: Ended, daemon: Daemon) -> None:
    """It ended well, and nothing is left."""
    print(f"exit {ended.exit_s:.1f} s, gone {ended.gone_s:.1f} s")  # noqa: T201 - pytest -s
    assert (ended.status, ended.left) == (0, []), daemon.err
    assert "Traceback" not in daemon.err


def test_signal_to_all_of_its_processes_stops_it(tmp_path: Path) -> None:
    with running("fake", tmp_path) as daemon:
        daemon.wait_until_ready()
        began = time.monotonic()
        for process in daemon.living():
            process.send_signal(signal.SIGTERM)

        ended = daemon.ended(began)

        check(ended, daemon)
        assert ended.exit_s < SOON_S
        assert "gateway_died" not in daemon.err


def test_answer_in_the_making_may_finish_before_a_running_daemon_stops(tmp_path: Path) -> None:
    with running("fake", tmp_path) as daemon:
        daemon.wait_until_ready()
        names = {process.name() for process in daemon.living()}
        assert {"raylet", "gcs_server", "headstart"} <= names
        assert len(daemon.living()) > 6
        body = {"messages": [{"role": "user", "content": "Hi!"}], "stream": True, "max_tokens": 150}
        with (
            httpx.Client(base_url=daemon.url, timeout=240, trust_env=False) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            pieces = answer.iter_raw()
            first = next(pieces)
            with ThreadPoolExecutor(1) as pool:
                stopping = pool.submit(daemon.stop, signal.SIGTERM)
                daemon.wait_for(lambda: not is_ready(daemon), "say that it stops", 30)
                late = httpx.post(f"{daemon.url}/v1/chat/completions", json=body, trust_env=False)
                assert late.status_code == httpx.codes.SERVICE_UNAVAILABLE
                assert late.headers["retry-after"] == "1"
                said = text(first + b"".join(pieces))

        ended = stopping.result()
        check(ended, daemon)
        assert len(said.split()) == 150
        assert ended.exit_s < SOON_S
        assert daemon.out.count("stopping:") == 1
        assert "(raylet)" not in daemon.out
        assert "daemon_gone" not in daemon.err


def is_ready(daemon: Daemon) -> bool:
    """Whether a load balancer would send requests to it."""
    return httpx.get(f"{daemon.url}/readyz", trust_env=False).status_code == httpx.codes.OK


def wait_for_process(daemon: Daemon, name: str) -> None:
    # Where torch and vLLM are read from a cold disk, an engine's process comes after minutes.
    daemon.wait_for(
        lambda: any(name in process.name() for process in daemon.living()), f"start {name}", 240
    )


MOMENTS: dict[str, Callable[[Daemon], None]] = {
    "Ray starts": lambda daemon: daemon.wait_for_line("starting Ray"),
    "Ray's processes are there": lambda daemon: wait_for_process(daemon, "raylet"),
    "replicas load": lambda daemon: daemon.wait_for_line("loading fake", 60),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_starting_daemon_stops(tmp_path: Path, moment: str) -> None:
    with running("fake", tmp_path) as daemon:
        MOMENTS[moment](daemon)

        check(daemon.stop(signal.SIGTERM), daemon)

        assert "ready after" not in daemon.out


@pytest.mark.engine
def test_daemon_that_loads_a_real_model_stops(tmp_path: Path) -> None:
    real_model()
    with running("laptop", tmp_path) as daemon:
        wait_for_process(daemon, "EngineCore")

        check(daemon.stop(signal.SIGTERM), daemon)
