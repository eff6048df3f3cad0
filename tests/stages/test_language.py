"""Most of a text says which language it is in; what is too short or none says nothing."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.configs.speculation import Language
from headstart.stages.language import MOST_CHARS, TAG, language_of, tag_of

GERMAN = "Der Bahnhof war am frühen Morgen noch leer, und der Kiosk hatte geschlossen."
FRENCH = "Nous avons attendu le train pendant plus de deux heures sous la pluie."
RUSSIAN = "Вечером на площади собрались жители соседних деревень."
JAPANESE = "駅前の小さな喫茶店で、友人とゆっくり話をしました。"
CHINESE = "昨天晚上我们在河边散步聊了很多关于工作的事情。"
ENGLISH = "The old bridge across the river was closed to all traffic last winter."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (GERMAN, "de"),
        (FRENCH, "fr"),
        (RUSSIAN, "ru"),
        (JAPANESE, "ja"),
        (CHINESE, "zh"),
        (ENGLISH, "en"),
        (f"Translate into English: {JAPANESE}", "ja"),
        (f"Translate this.\n{GERMAN} {GERMAN}", "de"),
        (f"{ENGLISH} {ENGLISH} {GERMAN}", "en"),
    ],
)
def test_most_of_a_text_decides(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "...", "ok", "42 + 17 = 59", "x = [i for i in y]", "\n\n"])
def test_what_is_no_language_is_in_none(text: str) -> None:
    assert language_of(text) is None


def test_of_a_long_text_beginning_and_end_are_looked_at() -> None:
    assert language_of(GERMAN * 200 + FRENCH * (MOST_CHARS // len(FRENCH)) + GERMAN * 200) == "de"


@given(st.text(max_size=200))
def test_any_text_has_one_language_or_none(text: str) -> None:
    language = language_of(text)
    assert language is None or language.isalpha()


@pytest.mark.parametrize(
    ("code", "tags", "tag"),
    [
        ("zh", ("de", "zh-CN"), "zh-CN"),
        ("zh", ("zh-TW", "zh", "zh-CN"), "zh"),
        ("pt", ("pt-PT", "pt-BR"), "pt-BR"),
        ("ko", ("de", "zh-CN"), "ko"),
    ],
)
def test_a_code_means_the_tag_of_its_language(code: str, tags: tuple[str, ...], tag: str) -> None:
    assert tag_of(code, tags) == tag


def test_settings_and_recipes_name_languages_alike() -> None:
    assert get_args(Language)[1].pattern == f"^{TAG}$"
