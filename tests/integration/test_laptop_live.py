"""A long prompt is typed into the laptop profile's real model, corrected twice, and sent off."""

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.daemon import Daemon, running
from tests.support.real_model import real_model

pytestmark = [pytest.mark.ray, pytest.mark.engine, pytest.mark.timeout(240)]

SENTENCE = "The {}th train leaves at noon and takes its passengers over the hills to the sea. "
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The daemon, as `headstart serve` runs it."""
    real_model()
    with running("laptop", tmp_path_factory.mktemp("daemon")) as daemon:
        daemon.wait_until_ready(120)
        yield daemon
        ended = daemon.stop(signal.SIGTERM)
        assert (ended.status, ended.left) == (0, []), daemon.err


def text(first: int) -> str:
    """Forty sentences that no other text begins like."""
    return "".join(SENTENCE.format(number) for number in range(first, first + 40))


def until(socket: ClientConnection, kind: str, version: int | None = None) -> dict[str, Any]:
    """Receive events up to one of a type."""
    while True:
        event: dict[str, Any] = json.loads(socket.recv(PATIENCE_S))
        assert event["type"] != "error", event
        if event["type"] == kind and version in (None, event.get("version")):
            return event


def say(socket: ClientConnection, kind: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def plain(daemon: Daemon, content: str) -> tuple[str, float]:
    """The answer to a prompt in one piece, and the seconds until it began."""
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 24}
    said, first_s, began = "", 0.0, time.monotonic()
    with httpx.stream(
        "POST",
        f"{daemon.url}/v1/chat/completions",
        json=body | {"stream": True},
        timeout=PATIENCE_S,
        trust_env=False,
    ) as response:
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            for choice in json.loads(line[6:])["choices"]:
                if delta := choice["delta"].get("content"):
                    first_s = first_s or time.monotonic() - began
                    said += delta
    return said, first_s


def test_the_answer_is_the_plain_one_and_begins_sooner(daemon: Daemon) -> None:
    _, cold_s = plain(daemon, text(1000) + "Where do the trains go?")
    typed = text(2000) + "Where do the trains go?"
    address = daemon.url.replace("http://", "ws://") + "/v1/realtime"
    with connect(address, proxy=None) as socket:
        sampling = {"temperature": 0, "max_tokens": 24}
        say(socket, "session.update", session={"sampling": sampling})
        wrong = typed.replace("2001th", "9999th").replace("to the sea", "to the lake", 1)
        for start in range(0, len(wrong), 400):
            say(socket, "input_text.append", text=wrong[start : start + 400])
        at = wrong.index("9999th")
        say(socket, "input_text.replace", start=at, end=at + 6, text="2001th")
        at = wrong.index("to the lake")
        say(socket, "input_text.replace", start=at, end=at + 11, text="to the sea")
        while (event := until(socket, "input_text.computed"))["warm_tokens"] < (
            event["stable_tokens"] - 32
        ) or event["version"] < 2 + -(-len(wrong) // 400):
            pass
        say(socket, "input_text.commit")
        began, said, first_s = time.monotonic(), "", 0.0
        while (event := json.loads(socket.recv(PATIENCE_S)))["type"] != "response.done":
            if event["type"] == "response.output_text.delta":
                first_s = first_s or time.monotonic() - began
                said += event["delta"]
    again, _ = plain(daemon, typed)

    timing = event["timing"]
    print(  # noqa: T201 - pytest -s
        f"first token: cold {cold_s:.3f} s, typed {first_s:.3f} s; {timing['prompt_tokens']} "
        f"tokens, cached {timing['cached_prompt_tokens']}; {event['computed_ahead']}"
    )
    assert event["response"]["status"] == "completed"
    assert said == again
    assert timing["cached_prompt_tokens"] >= timing["prompt_tokens"] - 96
    assert first_s < cold_s / 3
