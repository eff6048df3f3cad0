"""A real Prometheus that scrapes one address every second, and the panels' queries put to it.

For tests against a live daemon::

    with live_prometheus("http://127.0.0.1:8000/metrics", tmp_path) as prometheus:
        prometheus.wait_for_scrape()  # before the traffic, so that rates see all of it
        ...  # traffic
        prometheus.wait_for_scrape()
        answers = prometheus.ask_panels(overview_json)
"""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.monitoring.exposition import substituted
from tests.monitoring.panel_queries import PanelQuery, panel_queries

__all__ = ["LivePrometheus", "Sample", "live_prometheus", "needs_prometheus"]

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian's package of that name)",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an answer."""

    labels: dict[str, str]
    value: float


class LivePrometheus:
    """A running Prometheus and its HTTP API."""

    def __init__(self, client: httpx.Client, log: Path) -> None:
        self._client = client
        self._log = log

    def query(self, expr: str) -> list[Sample]:
        """Evaluate an instant vector now. AssertionError has Prometheus' words if it refuses."""
        reply = self._client.get("/api/v1/query", params={"query": expr})
        assert reply.status_code == httpx.codes.OK, f"{expr}: {reply.text}"
        data = reply.json()["data"]
        assert data["resultType"] == "vector", expr
        return [Sample(row["metric"], float(row["value"][1])) for row in data["result"]]

    def ask_panels(self, dashboard: str) -> dict[PanelQuery, list[Sample]]:
        """Put every query of a dashboard's JSON, over all models and the last minute."""
        return {query: self.query(substituted(query.expr)) for query in panel_queries(dashboard)}

    def wait_until_ready(self, timeout_s: float = 30) -> None:
        """Return once Prometheus answers queries."""
        self._poll("be ready", timeout_s, self._is_ready)

    def wait_for_scrape(self, timeout_s: float = 30) -> None:
        """Return once a scrape that began after this call can be queried."""
        called = time.time()
        self._poll("scrape", timeout_s, lambda: self._newest_scrape() > called)

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _newest_scrape(self) -> float:
        # A sample's time is the moment its scrape began.
        samples = self.query("timestamp(up) and up == 1")
        return samples[0].value if samples else 0.0

    def _poll(self, what: str, timeout_s: float, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout_s
        pause = threading.Event()
        while not is_done():
            if time.monotonic() > deadline:
                log = self._log.read_text(encoding="utf-8", errors="replace")
                pytest.fail(f"Prometheus did not {what} within {timeout_s} s:\n{log[-2000:]}")
            pause.wait(0.05)


@contextmanager
def live_prometheus(url: str, folder: Path) -> Iterator[LivePrometheus]:
    """Run Prometheus on `url`, with its data, configuration and log in `folder`."""
    target = urlsplit(url)
    config = folder / "prometheus.yml"
    job = {
        "job_name": "headstart",
        "metrics_path": target.path,
        "static_configs": [{"targets": [target.netloc]}],
    }
    timing = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config.write_text(yaml.safe_dump({"global": timing, "scrape_configs": [job]}))
    address = f"127.0.0.1:{_free_port()}"
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={address}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
            prometheus = LivePrometheus(client, log)
            prometheus.wait_until_ready()
            yield prometheus
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
