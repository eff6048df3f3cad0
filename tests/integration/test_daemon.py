"""The daemon as its users meet it: the official client, datagrams, and a gateway that dies.

Around two fake engines, so that it starts in seconds; test_laptop.py has a real one.
"""

import asyncio
import signal
from collections.abc import Iterator

import httpx
import openai
import pytest
import yaml
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncClient
from headstart.stages.carrier_ladder import LadderLimits, Rung
from tests.support.daemon import Daemon, profile, running
from tests.support.events import chunks, events, text
from tests.support.offering import OtherPort
from tests.support.udp_relay import udp_relay

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

CHAT = "/v1/chat/completions"
ASKED = {"model": "fake", "messages": [{"role": "user", "content": "Hi!"}], "max_tokens": 20}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The daemon, which at the end a Ctrl-C stops, and with it all that it started."""
    folder = tmp_path_factory.mktemp("daemon")
    tree = yaml.safe_load(profile("fake").read_text())
    tree["models"].append({"name": "second", "engine": "fake", "fake": {"seed": 1}})
    config = folder / "two.yaml"
    config.write_text(yaml.safe_dump(tree))
    with running(config, folder) as daemon:
        daemon.wait_until_ready()
        yield daemon
        ended = daemon.stop_group(signal.SIGINT)
        assert (ended.status, ended.left) == (0, []), daemon.err
        assert ended.exit_s < 15.0
        assert "Traceback" not in daemon.err


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
    assert f"models:  fake, second\nmetrics: {daemon.url}/metrics" in daemon.out
    assert f"curl -N {daemon.url}{CHAT}" in daemon.out
    assert "Traceback" not in daemon.err


def test_official_client(official: OpenAI) -> None:
    whole = official.chat.completions.create(**ASKED)  # type: ignore[call-overload]
    stream = official.chat.completions.create(**ASKED, stream=True)  # type: ignore[call-overload]

    said = "".join(part.choices[0].delta.content or "" for part in stream)
    assert said == whole.choices[0].message.content
    assert len(said.split()) == 20


def test_each_model_answers_under_its_name(official: OpenAI) -> None:
    names = [model.id for model in official.models.list().data]
    assert names == ["fake", "second"]

    said = set()
    for name in names:
        answer = official.chat.completions.create(**ASKED | {"model": name})  # type: ignore[call-overload]
        assert answer.model == name
        said.add(answer.choices[0].message.content)
    assert len(said) == 2


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


def test_answers_come_by_datagrams(daemon: Daemon) -> None:
    """Through a path that loses a tenth of them."""
    asyncio.run(asyncio.wait_for(read_by_datagrams(daemon.url), 60))


async def read_by_datagrams(url: str) -> None:
    port = httpx.URL(url).port
    assert port is not None
    link = {"loss": 0.1, "duplication": 0.05, "delay_s": 0.01, "jitter_s": 0.02}
    async with (
        udp_relay(port, seed=11, **link) as relay,
        httpx.AsyncClient(
            base_url=url, timeout=240, transport=OtherPort(relay.port), trust_env=False
        ) as http,
        AsyncClient(http=http, limits=LadderLimits(race_s=1e6)) as client,
    ):
        seen: set[frozenset[Rung]] = set()
        for _ in range(2):
            answer = await client.chat.completions.create(
                model="fake",
                messages=[{"role": "user", "content": "Name three colours."}],
                max_tokens=150,
                stream=True,
            )
            found = []
            async for chunk in answer:
                found.append(chunk)
                seen.add(answer.rungs)
            body = (await http.get(f"/v1/streams/{answer.id}")).content
            assert found == [ChatCompletionChunk.construct(**chunk) for chunk in chunks(body)]

        assert frozenset({Rung.DATAGRAMS}) in seen
        assert relay.num_lost > 0


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
    name = "headstart_replica_running_requests{"
    loads = [float(one.split()[-1]) for one in lines if one.startswith(name)]
    assert len(loads) == 2
    return sum(loads)
