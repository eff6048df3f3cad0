"""A request that does not say its language is looked at, where drafters are chosen by it."""

import json
from pathlib import Path
from typing import Any

import pytest

from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from headstart.pipeline import input_language
from headstart.pipeline.inbound import understand
from headstart.pipeline.input_language import InputLanguages

GERMAN = "Der Bahnhof war am frühen Morgen noch leer, und der Kiosk hatte geschlossen."
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
PARTS = [{"type": "text", "text": GERMAN}, {"type": "image_url", "image_url": {"url": "x"}}]


def said(*texts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> InputLanguages:
    table = tmp_path_factory.mktemp("tables") / "de.table"
    table.touch()
    drafting = SpeculationSettings(default="auto", tables={"de": table})
    return InputLanguages(
        [
            ModelSettings(
                name="drafted", source="a/b", speculation=drafting, adapters={"tuned": "c"}
            ),
            ModelSettings(
                name="declared",
                source="a/b",
                languages=("fr",),
                speculation=SpeculationSettings(default="auto"),
            ),
            ModelSettings(name="plain", source="a/b", languages=("de",)),
            ModelSettings(name="carded", source="a/b", languages=("de",)),
            ModelSettings(name="quiet", source="a/b", languages=("de",)),
        ],
        # What a replica says, of weights whose card turns speculation on too.
        {
            "drafted": "auto",
            "tuned": "auto",
            "declared": "auto",
            "carded": "auto",
            "quiet": "off",
        }.get,
    )


def found(languages: InputLanguages, path: str, body: dict[str, Any]) -> str | None:
    """The language that the engine's worker is told."""
    for_engine = understand(json.dumps(body).encode(), {}, None, path, languages).body
    told: str | None = (json.loads(for_engine).get("vllm_xargs") or {}).get("headstart_language")
    return told


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": said(GERMAN)}),
        (CHAT, {"messages": said(PARTS)}),
        (
            CHAT,
            {
                "messages": [
                    {"role": "system", "content": "Answer in English, please."},
                    *said(GERMAN),
                ]
            },
        ),
        (
            CHAT,
            {"messages": [*said(GERMAN), {"role": "assistant", "content": "Yes."}, *said("ok")]},
        ),
        (COMPLETIONS, {"prompt": GERMAN}),
        (RESPONSES, {"input": GERMAN}),
        (RESPONSES, {"input": said([{"type": "input_text", "text": GERMAN}])}),
    ],
)
def test_what_the_user_wrote_last_is_looked_at(
    languages: InputLanguages, path: str, body: dict[str, Any]
) -> None:
    assert found(languages, path, {"model": "drafted", **body}) == "de"
    assert found(languages, path, {"model": "tuned", **body}) == "de"
    assert found(languages, path, {"model": "declared", **body}) == "de"
    assert found(languages, path, {"model": "carded", **body}) == "de"


@pytest.mark.parametrize(
    "body",
    [
        {"model": "plain"},
        {"model": "plain", "headstart": {"speculation": "auto"}},
        {"model": "quiet"},
        {"model": None},
        {"model": "drafted", "headstart": {"speculation": "copy"}},
        {"model": "drafted", "headstart": {"speculation": "off"}},
    ],
)
def test_nothing_is_looked_at_where_it_does_not_matter(
    languages: InputLanguages, body: dict[str, Any]
) -> None:
    assert found(languages, CHAT, {"messages": said(GERMAN), **body}) is None


def test_a_tag_with_a_region_is_what_its_language_is_told_by(tmp_path: Path) -> None:
    table = tmp_path / "zh.table"
    table.touch()
    drafting = SpeculationSettings(default="auto", tables={"zh-CN": table})
    model = ModelSettings(name="drafted", source="a/b", speculation=drafting)
    languages = InputLanguages([model], {"drafted": "auto"}.get)
    chinese = said("昨天晚上我们在河边散步聊了很多关于工作的事情。")
    assert found(languages, CHAT, {"model": "drafted", "messages": chinese}) == "zh-CN"


def test_nobodys_first_request_waits_for_the_model_of_languages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[bool] = []
    monkeypatch.setattr(input_language, "load", lambda: loaded.append(True))
    plain = ModelSettings(name="plain", source="a/b")
    drafting = SpeculationSettings(default="auto")
    declared = ModelSettings(name="de", source="a/b", languages=("de",), speculation=drafting)
    InputLanguages([plain])
    assert not loaded
    InputLanguages([plain, declared])
    assert loaded


def test_who_says_it_is_believed(languages: InputLanguages) -> None:
    body = {"model": "drafted", "messages": said(GERMAN), "headstart": {"language": "nl"}}
    assert found(languages, CHAT, body) == "nl"


@pytest.mark.parametrize(
    "messages", [None, 5, "x", [5], [{"role": 5}], said({"text": 5}), said("ok")]
)
def test_what_cannot_be_read_or_told_passes_as_it_is(
    languages: InputLanguages, messages: Any
) -> None:
    body = json.dumps({"model": "drafted", "messages": messages}).encode()
    assert understand(body, {}, None, CHAT, languages).body is body


def test_other_routes_are_left_alone(languages: InputLanguages) -> None:
    body = json.dumps({"model": "drafted", "messages": said(GERMAN)}).encode()
    assert understand(body, {}, None, "/tokenize", languages).body is body
