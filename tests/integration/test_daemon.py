"""The daemon as its users meet it: the official client, Prometheus, and a gateway that dies.

Around the fake engine, so that it starts in seconds; test_laptop.py has the real one.
"""

from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI

from tests.support.daemon import Daemon, running
from tests.support.events import events, text

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

CHAT = "/v1/chat/completions"
ASKED = {"model": "fake", "messages": [{"role": "user", "content": "Hi!"}], "max_tokens": 20}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running("fake", tmp_path_factory.mktemp("daemon")) as daemon:
        daemon.wait_until_ready()
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon.url, timeout=240, trust_env=False) as client:
        yield client


@pytest.fixture
def official(daemon: Daemon) -> Iterator[OpenAI]:
    """The official client."""
    with (
        openai.DefaultHttpxClient(trust_env=False) as http,
        OpenAI(base_url=f"{daemon.url}/v1", api_key="any", http_client=http) as client,
    ):
        yield client


def test_it_says_how_to_ask(daemon: Daemon) -> None:
    assert f"models:  fake\nmetrics: {daemon.url}/metrics" in daemon.out
    assert f"curl -N {daemon.url}{CHAT}" in daemon.out
    assert "Traceback" not in daemon.err


def test_official_client(official: OpenAI) -> None:
    assert [model.id for model in official.models.list().data] == ["fake"]

    whole = official.chat.completions.create(**ASKED)  # type: ignore[call-overload]
    stream = official.chat.completions.create(**ASKED, stream=True)  # type: ignore[call-overload]

    said = "".join(part.choices[0].delta.content or "" for part in stream)
    assert said == whole.choices[0].message.content
    assert len(said.split()) == 20


def test_official_client_is_told_what_went_wrong(official: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="The model `gpt-9` does not exist"):
        official.completions.create(model="gpt-9", prompt="a")


def test_detached_answer_is_read_again(client: httpx.Client) -> None:
    body = client.post(CHAT, json=ASKED | {"stream": True, "headstart": {"detach": True}})
    stream_id = body.headers["x-headstart-stream"]

    middle = events(body.content)[7]
    rest = client.get(f"/v1/streams/{stream_id}", params={"after": middle.id})

    assert rest.content == body.content[middle.stop :]
    assert client.get(f"/v1/streams/{stream_id}/timing").json()["is_finished"]


def test_killed_gateway_comes_back_on_the_same_port(daemon: Daemon, client: httpx.Client) -> None:
    killed = daemon.child("headstart gateway")
    with client.stream("POST", CHAT, json=ASKED | {"stream": True, "max_tokens": 5000}) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        killed.kill()
        with pytest.raises(httpx.TransportError):
            list(pieces)

    # The daemon holds the socket: who connects meanwhile waits, and is not refused.
    waited = client.get("/healthz")
    assert waited.status_code == httpx.codes.OK
    daemon.wait_for(lambda: client.get("/readyz").status_code == httpx.codes.OK, "answer again", 30)

    assert len(text(client.post(CHAT, json=ASKED | {"stream": True}).content).split()) == 20
    assert daemon.child("headstart gateway").pid != killed.pid
    daemon.wait_for(lambda: running_requests(client) == 0, "abort what nobody reads", 30)


def running_requests(client: httpx.Client) -> float:
    """What the gateway knows of the engine's load."""
    lines = client.get("/metrics").text.splitlines()
    (line,) = (one for one in lines if one.startswith("headstart_replica_running_requests{"))
    return float(line.split()[-1])
