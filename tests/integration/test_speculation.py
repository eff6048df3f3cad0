"""One daemon that copies, drafts German from a table and takes Jacobi steps, each measured."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.stages.ngram_table import build
from tests.monitoring.exposition import Exposition
from tests.support.daemon import Daemon, running
from tests.support.real_model import real_model

pytestmark = [pytest.mark.ray, pytest.mark.engine, pytest.mark.timeout(300)]

CODE = "def total(prices):\n    result = 0\n    for price in prices:\n        result += price\n"
GERMAN = "Berlin ist die Hauptstadt von Deutschland und die größte Stadt in Deutschland. "


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    from transformers import AutoTokenizer

    stock = real_model()
    folder = tmp_path_factory.mktemp("speculation")
    tuned = folder / "tuned"
    shutil.copytree(stock, tuned, copy_function=lambda one, other: Path(other).symlink_to(one))
    (tuned / "README.md").write_text("---\nheadstart: {block_tokens: 8}\n---\n")
    tokenizer = AutoTokenizer.from_pretrained(stock)
    size = json.loads((stock / "config.json").read_bytes())["vocab_size"]
    answers = 2 * [tokenizer.encode(GERMAN)]
    how: dict[str, Any] = {"vocabulary": size, "tokenizer": tokenizer_hash(stock)}
    (folder / "de.table").write_bytes(build(answers, language="de", **how).encode())
    # What is not said, the card decides: default and length of drafts.
    model = {
        "name": "tuned",
        "source": str(tuned),
        "cores": ["1"],
        "max_model_len": 1024,
        "engine_args": {"enforce_eager": True},
        "speculation": {
            "is_adaptive": False,
            "tables": {"de": str(folder / "de.table")},
        },
    }
    config = folder / "settings.yaml"
    config.write_text(json.dumps({"models": [model]}))  # which is YAML
    with running(config, folder) as daemon:
        daemon.wait_until_ready()
        yield daemon
        assert daemon.stop(signal.SIGTERM).status == 0, daemon.err


def asked(daemon: Daemon, text: str, **options: Any) -> dict[str, Any]:
    body = {
        "model": "tuned",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 48,
        "headstart": {"timing": True, **options},
    }
    answer = httpx.post(f"{daemon.url}/v1/chat/completions", json=body, timeout=240)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()["headstart"]["timing"]["speculation"] or {}
    assert answer.json()["usage"].get("headstart", {}) == said
    return said


def test_each_kind_of_draft_is_used_and_measured(daemon: Daemon) -> None:
    edit = f"Repeat this code:\n{CODE}"
    assert asked(daemon, edit, speculation="off") == {}
    copied = asked(daemon, edit, speculation="copy")
    german = asked(daemon, "Was ist Berlin?", speculation="drafter", language="de")
    jacobi = asked(daemon, "Tell me about lighthouses.")

    for said in (copied, german, jacobi):
        assert said["drafted"] > 0
    assert copied["accepted"] > 0

    kinds = (("copy", "none"), ("drafter", "de"), ("jacobi", "other"))

    def is_measured() -> bool:
        metrics = Exposition.parse(httpx.get(f"{daemon.url}/metrics").content)
        name = "headstart_drafted_tokens_total"
        found = [
            metrics.value(name, model="tuned", position="1", source=source, language=language)
            for source, language in kinds
        ]
        return all(found)

    daemon.wait_for(is_measured, "see each kind of draft in the metrics", 120)


def test_streamed_usage_says_what_was_drafted(daemon: Daemon) -> None:
    """By the official client, whose type has OpenAI's names."""
    http = openai.DefaultHttpxClient(trust_env=False)
    client = openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", http_client=http)
    for stop in (None, ["result"]):
        chunks = client.chat.completions.create(
            model="tuned",
            messages=[{"role": "user", "content": f"Repeat this code:\n{CODE}"}],
            temperature=0,
            max_tokens=48,
            stop=stop,
            stream=True,
            stream_options={"include_usage": True},
            timeout=240,
        )
        usage: Any = [chunk.usage for chunk in chunks if chunk.usage is not None][-1]
        details, said = usage.completion_tokens_details, usage.headstart
        assert said["drafted"] > 0
        assert details.accepted_prediction_tokens == said["accepted"]
        assert details.rejected_prediction_tokens == said["drafted"] - said["accepted"]
    http.close()
