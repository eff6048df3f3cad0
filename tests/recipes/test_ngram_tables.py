"""From a server's answers to a table that drafts them."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.recipes.ngram_tables import make
from headstart.stages.errors import SetupError
from headstart.stages.ngram_table import NgramTable

Handler = Callable[[httpx.Request], httpx.Response]


def answering(request: httpx.Request) -> httpx.Response:
    body = json.loads(request.content)
    assert (body["model"], body["temperature"], body["return_token_ids"]) == ("tiny", 0, True)
    tokens = [3, 4, 5] if "eins" in body["messages"][0]["content"] else [3, 4, 6]
    return httpx.Response(200, json={"choices": [{"token_ids": tokens}]})


def made(tiny_model: Path, prompts: Path, handler: Handler, name: str | None = None) -> NgramTable:
    model = ModelSettings(name="tiny", source=str(tiny_model))
    settings = Settings(models=(model,))
    with httpx.Client(transport=httpx.MockTransport(handler), base_url="http://served") as client:
        return make(settings, name, "de", prompts, client)


def test_table_holds_what_the_answers_say_twice(tiny_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.write_text("Sage eins.\n\nSage zwei.\nSage eins.\n")

    table = made(tiny_model, prompts, answering)

    assert table.language == "de"
    assert table.vocabulary == 260
    assert table.tokenizer == tokenizer_hash(tiny_model)
    assert table.followers == {"3": (4, 100), "4": (5, 66), "3 4": (5, 66)}


def test_what_cannot_be_made_is_said(tiny_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.write_text("\n")
    with pytest.raises(SetupError, match="no prompt"):
        made(tiny_model, prompts, answering)
    prompts.write_text("Sage eins.")
    with pytest.raises(SetupError, match="no model other"):
        made(tiny_model, prompts, answering, "other")
    for status, text in ((503, "{}"), (200, "{}"), (200, "no JSON")):
        with pytest.raises(SetupError, match="gives no answers"):
            made(tiny_model, prompts, lambda _, s=status, t=text: httpx.Response(s, text=t))  # type: ignore[misc]
