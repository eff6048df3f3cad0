"""One daemon with two models, around fake engines."""

from pathlib import Path

import httpx
import pytest

from tests.support.daemon import running

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

CHAT = "/v1/chat/completions"
CONFIG = """
models:
  - {name: first, engine: fake, fake: {time_to_first_token_s: 0}}
  - {name: second, engine: fake, fake: {time_to_first_token_s: 0, seed: 1}}
"""


def test_each_model_answers_under_its_name(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    with running(config, tmp_path) as daemon:
        daemon.wait_until_ready()
        assert "models:  first, second\n" in daemon.out

        with httpx.Client(base_url=daemon.url, timeout=240, trust_env=False) as client:
            listed = client.get("/v1/models").json()["data"]
            assert [model["id"] for model in listed] == ["first", "second"]
            assert client.get("/readyz").status_code == httpx.codes.OK
            texts = []
            for name in ("first", "second"):
                messages = [{"role": "user", "content": "Hi!"}]
                asked = {"model": name, "messages": messages, "max_tokens": 8}
                answer = client.post(CHAT, json=asked).json()
                assert answer["model"] == name
                texts.append(answer["choices"][0]["message"]["content"])
            assert texts[0] != texts[1]
