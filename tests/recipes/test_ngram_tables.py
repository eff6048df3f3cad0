"""From a server's answers to a table that drafts them."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.pipeline.cli import main
from headstart.recipes.ngram_tables import make
from headstart.stages.errors import SetupError
from headstart.stages.ngram_table import NgramTable

Handler = Callable[[httpx.Request], httpx.Response]


def answering(request: httpx.Request) -> httpx.Response:
    body = json.loads(request.content)
    assert (body["model"], body["temperature"], body["return_token_ids"]) == ("tiny", 0, True)
    tokens = [3, 4, 5] if "eins" in body["messages"][0]["content"] else [3, 4, 6]
    return httpx.Response(200, json={"choices": [{"token_ids": tokens}]})


def made(
    tiny_model: Path,
    prompts: Path,
    handler: Handler,
    name: str | None = None,
    language: str = "de",
) -> NgramTable:
    model = ModelSettings(name="tiny", source=str(tiny_model))
    settings = Settings(models=(model,))
    with httpx.Client(transport=httpx.MockTransport(handler), base_url="http://served") as client:
        return make(settings, name, language, prompts, client)


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
    for language in ("DE", "de_AT", "de de", ""):
        with pytest.raises(SetupError, match=f"'{language}' is no language that settings can name"):
            made(tiny_model, prompts, answering, language=language)
    refusal = '{"error": {"message": "The model `tiny` does not exist."}}'
    for status, text, why in (
        (503, "{}", "status 503$"),
        (404, refusal, "The model `tiny` does not exist.$"),
        (200, "{}", "choices"),
        (200, '{"choices": []}', "index"),
        (200, "no JSON", "malformed"),
    ):
        with pytest.raises(SetupError, match=f"gives no answers: .*{why}"):
            made(tiny_model, prompts, lambda _, s=status, t=text: httpx.Response(s, text=t))  # type: ignore[misc]
    for status, why in ((502, "status 502$"), (200, ".")):
        page = b'{"error": {"message": "\xe4"}, "choices": [{"token_ids": ["\xe4"]}]}'
        with pytest.raises(SetupError, match=f"gives no answers: {why}"):
            made(tiny_model, prompts, lambda _, s=status, c=page: httpx.Response(s, content=c))  # type: ignore[misc]
    prompts.write_bytes("Wie heißt du?".encode("latin-1"))
    with pytest.raises(SetupError, match="prompts cannot be read: 'utf-8'"):
        made(tiny_model, prompts, answering)


def test_the_server_is_where_the_settings_have_it_and_the_file_is_asked_for_first(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts"
    prompts.write_text("Sage eins.")
    settings = f"models=[{{name: a, source: '{tiny_model}'}}]"
    flags = ["--set", settings, "--set", "gateway.port=9", "--language", "de"]
    asked = ["table", *flags, "--prompts", str(prompts), "--out"]

    assert main([*asked, str(tmp_path / "de.table")]) == 2
    assert capsys.readouterr().err.startswith("error: http://127.0.0.1:9 gives no answers: ")
    for out in (tmp_path / "none/de.table", tmp_path):
        assert main([*asked, str(out)]) == 2
        assert capsys.readouterr().err.startswith(f"error: {out} cannot be written: name a file")
