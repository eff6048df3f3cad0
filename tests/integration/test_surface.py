"""A real model with a tool parser and an adapter, asked through the official clients."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.golden.vllm_answers import FLAT_TOOL, MODEL, QUESTION, TOOL
from tests.support.daemon import Daemon, running
from tests.support.lora import write_lora
from tests.support.node_client import ask_through_node
from tests.support.real_model import real_model

pytestmark = [pytest.mark.ray, pytest.mark.engine, pytest.mark.timeout(600)]

ADAPTER = "smol-tuned"
SAID = "1. Red: This is the most obvious colour, but"
"""In float32, and without the adapter."""
CHAT: dict[str, Any] = {"messages": QUESTION, "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    adapter = write_lora(folder / "adapter", real_model())
    model = MODEL.model_copy(update={"adapters": {ADAPTER: str(adapter)}})
    config = folder / "config.yaml"
    config.write_text(f'{{"models": [{model.model_dump_json(exclude_unset=True)}]}}')
    with running(config, folder) as daemon:
        daemon.wait_until_ready()
        yield daemon


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[OpenAI]:
    with (
        openai.DefaultHttpxClient(trust_env=False) as http,
        OpenAI(base_url=f"{daemon.url}/v1", api_key="any", http_client=http) as client,
    ):
        yield client


def test_adapter_is_a_model_of_its_own(client: OpenAI) -> None:
    listed = {model.id: model for model in client.models.list().data}
    assert listed.keys() == {"smol", ADAPTER}
    assert client.models.retrieve(ADAPTER).parent == "smol"  # type: ignore[attr-defined]

    said = {}
    for name in listed:
        whole = client.chat.completions.create(model=name, **CHAT)
        parts = client.chat.completions.create(model=name, stream=True, **CHAT)
        said[name] = whole.choices[0].message.content
        assert whole.model == name
        assert "".join(part.choices[0].delta.content or "" for part in parts) == said[name]
    assert said["smol"] == SAID
    assert said[ADAPTER] != said["smol"]


def test_tool_is_called(client: OpenAI) -> None:
    asked: dict[str, Any] = CHAT | {"model": "smol", "max_tokens": 48}
    asked |= {"tools": [TOOL], "tool_choice": "required"}

    parts = list(client.chat.completions.create(**asked, stream=True))

    calls = [one for part in parts for one in part.choices[0].delta.tool_calls or ()]
    assert calls[0].function.name == "get_weather"
    # So small a model calls it with whatever comes to it.
    assert "".join(one.function.arguments or "" for one in calls)


def test_response(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "smol", "input": "Name three colours.", "temperature": 0}
    tools = {"tools": [FLAT_TOOL], "tool_choice": "required", "max_output_tokens": 48}

    whole = client.responses.create(**asked, max_output_tokens=12)
    with client.responses.stream(**asked, max_output_tokens=12) as assembled:
        final = assembled.get_final_response()
    *_, last = client.responses.create(**(asked | tools), stream=True)

    assert whole.output_text == final.output_text == SAID
    assert whole.status == "incomplete"
    assert last.type == "response.completed"
    (called,) = last.response.output
    assert (called.type, called.name) == ("function_call", "get_weather")


def test_node_client(daemon: Daemon) -> None:
    found = ask_through_node(daemon.url, "smol")

    assert set(found["models"]) == {"smol", ADAPTER}
    assert found["chat"] == found["streamedChat"] == "1. Red: This is the most"
    assert found["response"] == found["streamedResponse"] == found["assembledResponse"]
    assert found["response"] == found["chat"]
    assert found["embeddings"] == ["NotFoundError", 404]
