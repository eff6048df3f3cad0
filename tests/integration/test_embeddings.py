"""A model that embeds: vLLM's own embeddings, and no chat."""

import json
import math
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI

from tests.golden.vllm_answers import MODEL, QUESTION
from tests.support.daemon import running
from tests.support.real_model import real_model

pytestmark = [
    *(pytest.mark.ray, pytest.mark.engine, pytest.mark.heavy),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    real_model()
    folder = tmp_path_factory.mktemp("daemon")
    arguments = {"enforce_eager": True, "runner": "pooling", "convert": "embed"}
    model = MODEL.model_copy(update={"engine_args": arguments})
    config = folder / "config.yaml"
    config.write_text(f'{{"models": [{model.model_dump_json(exclude_unset=True)}]}}')
    with running(config, folder) as daemon:
        daemon.wait_until_ready()
        with (
            openai.DefaultHttpxClient(trust_env=False) as http,
            OpenAI(base_url=f"{daemon.url}/v1", api_key="any", http_client=http) as client,
        ):
            yield client


def test_texts_are_embedded(client: OpenAI) -> None:
    found = client.embeddings.create(model="smol", input=["A cat sat.", "A cat sat.", "Taxes rise"])

    one, two, three = (item.embedding for item in found.data)
    assert len(one) == 576
    assert math.hypot(*one) == pytest.approx(1.0, abs=1e-3)
    assert one == pytest.approx(two, abs=1e-4)
    assert one != pytest.approx(three, abs=1e-2)
    assert found.usage.prompt_tokens > 0


def test_prompts_are_counted(client: OpenAI) -> None:
    answer = client.embeddings.with_raw_response.create(model="smol", input=["A cat.", "Taxes"])

    path = f"/streams/{answer.headers['x-headstart-stream']}/timing"
    timing = client.get(path, cast_to=object)
    assert timing["prompt_tokens"] == answer.parse().usage.prompt_tokens > 2  # type: ignore[index]


def test_bytes_come_with_what_says_where_each_lies(client: OpenAI) -> None:
    answer = client.post(
        "/embeddings",
        body={"model": "smol", "input": ["A cat.", "Taxes"], "encoding_format": "bytes"},
        cast_to=httpx.Response,
    )

    assert answer.headers["content-type"] == "application/octet-stream"
    metadata = json.loads(answer.headers["metadata"])
    assert [item["shape"] for item in metadata["data"]] == [[576], [576]]
    assert metadata["data"][-1]["end"] == len(answer.content) == 2 * 576 * 4
    assert metadata["usage"]["prompt_tokens"] > 0


def test_it_does_not_chat(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="smol", messages=QUESTION)  # type: ignore[arg-type]
