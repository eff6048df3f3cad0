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
GERMAN = (
    "Was ist die Hauptstadt von Deutschland, und wie groß ist sie?",
    "Erzähle mir bitte etwas über das Wetter in Hamburg.",
)
NUM_TOKENS = 48


def own_answers(folder: Path) -> list[list[int]]:
    """What the model itself says to German prompts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = []
    for text in GERMAN:
        said = [{"role": "user", "content": text}]
        told: Any = tokenizer.apply_chat_template(
            said, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            answer = model.generate(**told, max_new_tokens=NUM_TOKENS, do_sample=False)
        found.append(answer[0, told["input_ids"].shape[1] :].tolist())
    return found


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The stock weights, and the same under a second name, whose card declares a block length."""
    stock = real_model()
    folder = tmp_path_factory.mktemp("speculation")
    tuned = folder / "tuned"
    shutil.copytree(stock, tuned, copy_function=lambda one, other: Path(other).symlink_to(one))
    (tuned / "README.md").write_text("---\nheadstart: {block_tokens: 8}\n---\n")
    size = json.loads((stock / "config.json").read_bytes())["vocab_size"]
    how: dict[str, Any] = {"vocabulary": size, "tokenizer": tokenizer_hash(stock)}
    table = folder / "de.table"
    table.write_bytes(build(own_answers(stock), language="de", **how).encode())
    common = {
        "dtype": "float32",
        "max_model_len": 1024,
        "engine_args": {"enforce_eager": True},
    }
    drafting = {"is_adaptive": False}
    models = [
        {
            "name": "stock",
            "source": str(stock),
            "cores": ["0"],
            "speculation": {**drafting, "tables": {"de": str(table)}},
            **common,
        },
        # What is not said, the card decides: default and length of drafts.
        {
            "name": "tuned",
            "source": str(tuned),
            "cores": ["1"],
            "speculation": drafting,
            **common,
        },
    ]
    config = folder / "settings.yaml"
    config.write_text(json.dumps({"models": models}))  # which is YAML
    with running(config, folder) as daemon:
        daemon.wait_until_ready()
        yield daemon
        assert daemon.stop(signal.SIGTERM).status == 0, daemon.err


def asked(daemon: Daemon, model: str, text: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """Return an answer, and what was drafted for it."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": NUM_TOKENS,
        "headstart": {"timing": True, **options},
    }
    answer = httpx.post(f"{daemon.url}/v1/chat/completions", json=body, timeout=240)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()["headstart"]["timing"]["speculation"] or {}
    assert answer.json()["usage"].get("headstart", {}) == said
    return answer.json()["choices"][0]["message"]["content"], said


def test_each_kind_of_draft_is_used_and_measured_and_exact(daemon: Daemon) -> None:
    edit, story = f"Repeat this code:\n{CODE}", "Tell me about lighthouses."
    cases: list[tuple[str, str, dict[str, str]]] = [
        ("stock", edit, {"speculation": "copy"}),
        ("stock", GERMAN[0], {"speculation": "drafter"}),  # whose language nobody tells
        ("tuned", story, {}),
    ]
    for model, text, options in cases:
        plain, nothing = asked(daemon, "stock", text, speculation="off")
        found, drafted = asked(daemon, model, text, **options)
        assert (found, nothing) == (plain, {})
        assert drafted["drafted"] > 0
        assert drafted["accepted"] > 0 or model == "tuned"  # whose weights are not tuned

    kinds = (
        ("stock", "copy", "none"),
        ("stock", "drafter", "de"),
        ("tuned", "jacobi", "none"),
    )

    def is_measured() -> bool:
        metrics = Exposition.parse(httpx.get(f"{daemon.url}/metrics").content)
        name = "headstart_drafted_tokens_total"
        found = [
            metrics.value(name, model=model, position="1", source=source, language=language)
            for model, source, language in kinds
        ]
        return all(found)

    daemon.wait_for(is_measured, "see each kind of draft in the metrics", 120)


def test_streamed_usage_says_what_was_drafted(daemon: Daemon) -> None:
    """By the official client, whose type has OpenAI's names."""
    http = openai.DefaultHttpxClient(trust_env=False)
    client = openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", http_client=http)
    for stop in (None, ["result"]):
        chunks = client.chat.completions.create(
            model="stock",
            messages=[{"role": "user", "content": f"Repeat this code:\n{CODE}"}],
            temperature=0,
            max_tokens=48,
            stop=stop,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"headstart": {"speculation": "copy"}},
            timeout=240,
        )
        usage: Any = [chunk.usage for chunk in chunks if chunk.usage is not None][-1]
        details, said = usage.completion_tokens_details, usage.headstart
        assert said["drafted"] > 0
        assert details.accepted_prediction_tokens == said["accepted"]
        assert details.rejected_prediction_tokens == said["drafted"] - said["accepted"]
    http.close()
