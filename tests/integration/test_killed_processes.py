"""Processes of a real daemon are killed amid answers: two fake replicas under Ray Serve."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.support.daemon import Daemon, running
from tests.support.events import events, text

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

CHAT = "/v1/chat/completions"
TOKENS = 150
ASKED = {
    "model": "fake",
    "messages": [{"role": "user", "content": "Hi!"}],
    "max_tokens": TOKENS,
    "stream": True,
    "stream_options": {"include_usage": True},
}
DETACHED = {"x-headstart-detach": "1"}
CONFIG = """
models:
  - name: fake
    engine: fake
    replicas: 2
    fake: {time_to_first_token_s: 0.05, tokens_per_s: 50}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("killed")
    config = folder / "two.yaml"
    config.write_text(CONFIG)
    with running(config, folder) as daemon:
        daemon.wait_until_ready()
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon.url, timeout=240, trust_env=False) as client:
        yield client


def replicas(daemon: Daemon) -> list[psutil.Process]:
    found = [one for one in daemon.living() if "ServeReplica" in " ".join(one.cmdline())]
    return sorted(found, key=lambda one: one.create_time())


def healed(daemon: Daemon, client: httpx.Client) -> None:
    def is_whole() -> bool:
        try:
            lines = client.get("/metrics").text.splitlines()
        except httpx.TransportError:
            return False
        up = [one for one in lines if one.startswith("headstart_replicas{") and '"up"' in one]
        return up[0].endswith(" 2.0")

    daemon.wait_for(is_whole, "link both replicas", 240)


def fetched(client: httpx.Client, path: str, **params: str) -> httpx.Response:
    """Ask, and ask again as long as told to."""
    while (answer := client.get(path, params=params)).status_code == 503:
        assert answer.headers["retry-after"]
    return answer


class Reading:
    """One answer that is being read in a thread."""

    def __init__(self, client: httpx.Client, headers: dict[str, str]) -> None:
        self.body = b""
        self.stream_id = ""
        self.is_amid = threading.Event()
        self._client, self._headers = client, headers

    def run(self) -> "Reading":
        request = self._client.stream("POST", CHAT, json=ASKED, headers=self._headers)
        try:
            with request as answer:
                self.stream_id = answer.headers["x-headstart-stream"]
                for piece in answer.iter_raw():
                    self.body += piece
                    if self.body.count(b"\n\n") > 10:
                        self.is_amid.set()
        except httpx.TransportError:
            self.is_amid.set()
        return self


def test_killed_replica(daemon: Daemon, client: httpx.Client) -> None:
    healed(daemon, client)
    expected = text(client.post(CHAT, json=ASKED).content)
    # As many of either kind on either replica.
    readings = [Reading(client, headers) for headers in (DETACHED, DETACHED, {}, {})]
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(reading.run) for reading in readings]
        assert all(reading.is_amid.wait(120) for reading in readings)
        replicas(daemon)[0].kill()
        assert client.get("/readyz").status_code == httpx.codes.OK
        for future in running:
            future.result(240)

    for reading in readings[:2]:
        assert text(reading.body) == expected
        assert b'"completion_tokens":150' in reading.body
        again = client.get(f"/v1/streams/{reading.stream_id}")
        assert again.content == reading.body
    for reading in readings[2:]:
        assert b'"ServiceUnavailableError"' in reading.body or text(reading.body) == expected
        assert reading.body.endswith(b"data: [DONE]\n\n")
    lines = client.get("/metrics").text.splitlines()
    (moved,) = (
        one for one in lines if "headstart_rescues_total{" in one and 'outcome="moved"' in one
    )
    assert float(moved.rpartition(" ")[2]) >= 1


def test_killed_gateway(daemon: Daemon, client: httpx.Client) -> None:
    expected = text(client.post(CHAT, json=ASKED).content)
    reading = Reading(client, DETACHED)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(reading.run)
        assert reading.is_amid.wait(120)
        daemon.child("headstart gateway").kill()
        running.result(240)
    with httpx.Client(base_url=daemon.url, timeout=240, trust_env=False) as fresh:
        whole = reading.body[: reading.body.rindex(b"\n\n") + 2]
        last = events(whole)[-1].id

        rest = fetched(fresh, f"/v1/streams/{reading.stream_id}", after=str(last))

        assert rest.status_code == httpx.codes.OK
        assert text(whole + rest.content) == expected
        assert fresh.get(f"/v1/streams/{reading.stream_id}").content == whole + rest.content
        assert fresh.get(f"/v1/streams/{reading.stream_id}/timing").json()["is_finished"]
        assert fetched(fresh, "/v1/streams/never-was").status_code == httpx.codes.NOT_FOUND
        healed(daemon, fresh)  # of a replica too, if one was killed before
