"""The laptop profile: a real model, the official client, and where the time of its answers went.

And a long prompt that is typed into it, corrected twice, and sent off.
"""

import json
import math
import re
import signal
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from websockets.sync.client import ClientConnection, connect

from headstart.monitoring import dashboards
from headstart.stages.stage_clock import Stage
from tests.monitoring.live_prometheus import live_prometheus
from tests.support.daemon import Daemon, running
from tests.support.real_model import real_model

pytestmark = [pytest.mark.ray, pytest.mark.engine, pytest.mark.timeout(600)]

MODEL = "smollm2-135m-instruct"
NUM_TOKENS = 24
MEASURED = {*Stage} - {Stage.NETWORK, Stage.RENDER}
SENTENCE = "The {}th train leaves at noon and takes its passengers over the hills to the sea. "
PATIENCE_S = 60.0
TIMING = {"headstart": {"timing": True}}
NOT_HERE = re.compile(
    r"quic|datagram|acks|reader_rtt|render_gap|stalls|catch_ups|fallbacks|resumes|headstart_live"
    r"|decode_rows|decode_steps|drafted_tokens|drafts_total|draft_decisions"
)
"""What only readers over QUIC, live prompts and models that speculate give;
tests/monitoring/test_live_prometheus.py has them."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The daemon, which takes everything along when it is told to stop at the end."""
    real_model()
    with running("laptop", tmp_path_factory.mktemp("daemon")) as daemon:
        daemon.wait_until_ready()
        yield daemon
        ended = daemon.stop(signal.SIGTERM)
        print(f"exit {ended.exit_s:.1f} s, gone {ended.gone_s:.1f} s")  # noqa: T201 - pytest -s
        assert (ended.status, ended.left) == (0, []), daemon.err


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[OpenAI]:
    """The official client."""
    with (
        openai.DefaultHttpxClient(trust_env=False) as http,
        OpenAI(base_url=f"{daemon.url}/v1", api_key="any", http_client=http) as client,
    ):
        yield client


def asked(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "temperature": 0, **fields}


def test_it_is_the_model_it_says(client: OpenAI) -> None:
    assert [model.id for model in client.models.list().data] == [MODEL]


def test_same_answer_streamed_and_not(client: OpenAI) -> None:
    question = asked("Count from one to ten.", max_tokens=48)

    whole = client.chat.completions.create(**question)
    parts = list(client.chat.completions.create(**question, stream=True))

    said = "".join(part.choices[0].delta.content or "" for part in parts)
    assert said == whole.choices[0].message.content
    assert "4." in said
    assert whole.usage.completion_tokens > 10
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_same_completion_streamed_and_not(client: OpenAI) -> None:
    question = {"model": MODEL, "prompt": "The sky is", "temperature": 0, "max_tokens": 16}

    whole = client.completions.create(**question)  # type: ignore[call-overload]
    stream = client.completions.create(**question, stream=True)  # type: ignore[call-overload]

    assert "".join(part.choices[0].text for part in stream) == whole.choices[0].text


@dataclass(frozen=True, slots=True)
class Measured:
    """One request, by the client's own clock and by the stage clock, in seconds."""

    whole_s: float
    stages_s: dict[str, float]

    @property
    def other_s(self) -> float:
        return self.whole_s - sum(self.stages_s.values())


def measure(client: OpenAI, text: str) -> Measured:
    began = time.monotonic()
    question = asked(text, max_tokens=NUM_TOKENS, stream=True, extra_body=TIMING)
    last = None
    for part in client.chat.completions.create(**question):
        last = part
    whole_s = time.monotonic() - began
    assert last is not None
    return Measured(whole_s, last.model_extra["headstart"]["timing"]["stages_s"])


@pytest.mark.parametrize("num_requests", [12, pytest.param(200, marks=pytest.mark.heavy)])
def test_stages_account_for_the_time_that_a_client_waits(client: OpenAI, num_requests: int) -> None:
    measure(client, "Hi!")

    found = [measure(client, f"What is {n} plus {n + 3}?") for n in range(num_requests)]

    assert all(set(one.stages_s) == MEASURED for one in found)
    shares = [one.other_s / one.whole_s for one in found]
    total = sum(one.other_s for one in found) / sum(one.whole_s for one in found)
    median, p95 = statistics.median(shares), statistics.quantiles(shares, n=20)[-1]
    whole_s = statistics.median(one.whole_s for one in found)
    print(  # noqa: T201 - pytest -s
        f"other: median {median:.2%}, total {total:.2%}, p95 {p95:.2%}, largest {max(shares):.2%} "
        f"of a median of {whole_s * 1000:.0f} ms"
    )
    assert abs(median) <= 0.05
    assert abs(total) <= 0.05


@pytest.mark.prometheus
def test_every_panel_of_the_dashboard_finds_data(
    daemon: Daemon, client: OpenAI, tmp_path: Path
) -> None:
    (board,) = dashboards.build().values()
    with live_prometheus(f"{daemon.url}/metrics", tmp_path) as prometheus:
        prometheus.wait_for_scrape()  # rates see what happens after the first scrape
        for _ in range(2):
            measure(client, "Name a colour.")
            client.chat.completions.create(**asked("Name a colour.", max_tokens=4))
            prometheus.wait_for_scrape()
        asked_of_all = prometheus.ask_panels(board)
        answers = {
            query: samples
            for query, samples in asked_of_all.items()
            if not NOT_HERE.search(query.expr)
        }

    assert [str(query) for query, samples in answers.items() if not samples] == []
    odd = [
        str(query)
        for query, samples in answers.items()
        if not any(math.isfinite(sample.value) for sample in samples)
    ]
    assert odd == []
    (means,) = (
        samples for query, samples in answers.items() if "Mean time per stage" in str(query)
    )
    assert {sample.labels["stage"] for sample in means} >= MEASURED


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


def in_one_piece(daemon: Daemon, content: str) -> tuple[str, float]:
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


def test_typed_prompt_gets_the_plain_answer_and_sooner(daemon: Daemon) -> None:
    _, cold_s = in_one_piece(daemon, text(1000) + "Where do the trains go?")
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
    again, _ = in_one_piece(daemon, typed)

    timing = event["timing"]
    print(  # noqa: T201 - pytest -s
        f"first token: cold {cold_s:.3f} s, typed {first_s:.3f} s; {timing['prompt_tokens']} "
        f"tokens, cached {timing['cached_prompt_tokens']}; {event['computed_ahead']}"
    )
    assert event["response"]["status"] == "completed"
    assert said == again
    assert timing["cached_prompt_tokens"] >= timing["prompt_tokens"] - 96
    assert first_s < cold_s / 3


def test_what_was_thought_while_typing_is_in_the_answers_prompt_and_in_the_cache(
    daemon: Daemon,
) -> None:
    """A real model thinks; no word of its answer depends on the plain request's here."""
    address = daemon.url.replace("http://", "ws://") + "/v1/realtime"
    with connect(address, proxy=None) as socket:
        session = {
            "mode": "livemind",
            "livemind": {"show_thoughts": True, "max_tokens": 32},
            "sampling": {"temperature": 0, "max_tokens": 24},
        }
        say(socket, "session.update", session=session)
        for number in range(3000, 3004):
            say(socket, "input_text.append", text=SENTENCE.format(number))
        say(socket, "input_text.append", text="Where do")
        thoughts: list[Any] = []
        while not thoughts:
            thoughts = until(socket, "input_text.reasoning")["thoughts"]
        say(socket, "input_text.append", text=" the trains go?")
        # The thought's own tokens count too: they are where the engine left them.
        while (event := until(socket, "input_text.computed"))["warm_tokens"] < (
            event["stable_tokens"] - 32
        ) or event["version"] < 6:
            pass
        say(socket, "input_text.commit")
        while (event := json.loads(socket.recv(PATIENCE_S)))["type"] != "response.done":
            assert event["type"] != "error", event

    timing = event["timing"]
    print(  # noqa: T201 - pytest -s
        f"{timing['prompt_tokens']} tokens, cached {timing['cached_prompt_tokens']}; "
        f"{event['computed_ahead']}"
    )
    assert event["response"]["status"] == "completed"
    assert event["computed_ahead"]["thoughts"] >= 1
    assert timing["cached_prompt_tokens"] >= timing["prompt_tokens"] - 96
