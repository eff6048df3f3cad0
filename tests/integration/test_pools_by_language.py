"""One daemon with two pools of a tiny model: German goes where a model drafts."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.monitoring.exposition import Exposition
from tests.support.daemon import Daemon, running

pytestmark = [pytest.mark.ray, pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def daemon(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("pools")
    model = {
        "name": "tiny",
        "source": str(tiny_model),
        "dtype": "float32",
        "max_model_len": 256,
        "engine_args": {"enforce_eager": True, "num_gpu_blocks_override": 64},
        "speculation": {
            "default": "auto",
            "drafters": {"de": {"source": str(tiny_model), "num_tokens": 3}},
        },
    }
    config = folder / "settings.yaml"
    config.write_text(json.dumps({"models": [model]}))  # which is YAML
    with running(config, folder) as daemon:
        daemon.wait_until_ready()
        yield daemon
        assert daemon.stop(signal.SIGTERM).status == 0, daemon.err


def asked(daemon: Daemon, **options: Any) -> dict[str, Any]:
    body = {
        "model": "tiny",
        "prompt": "the thing",
        "temperature": 0,
        "max_tokens": 24,
        "ignore_eos": True,
        "headstart": {"timing": True, **options},
    }
    answer = httpx.post(f"{daemon.url}/v1/completions", json=body, timeout=240)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def test_german_is_drafted_by_the_model_of_its_pool(daemon: Daemon) -> None:
    common = asked(daemon, speculation="off")
    german = asked(daemon, language="de")
    french = asked(daemon, language="fr")

    texts = [each["choices"][0]["text"] for each in (common, german, french)]
    assert texts[0] == texts[1] == texts[2]
    said = german["headstart"]["timing"]["speculation"]
    assert said["accepted"] == said["drafted"] > 0  # it drafts for itself

    def is_measured() -> bool:
        metrics = Exposition.parse(httpx.get(f"{daemon.url}/metrics").content)
        routed = [
            metrics.value("headstart_routed_total", model="tiny", reason=reason)
            for reason in ("language", "no_pool", "undrafted")
        ]
        labels = {"model": "tiny", "source": "model", "language": "de"}
        drafts = metrics.value("headstart_drafts_total", **labels)
        return routed == [1, 1, 1] and drafts == said["steps"]

    daemon.wait_for(is_measured, "see the pool's drafts in the metrics", 60)
