"""The input's language is told whatever the instruction says, and what nobody drafts for is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.benchmarks.other_languages import SENTENCES
from headstart.stages.prompt_language import prompt_language

DRAFTED = ("de", "fr", "ru", "ja", "zh-CN")
OWN = {
    "de": (
        "Der Bahnhof war am frühen Morgen noch leer.",
        "Meine Schwester backt jeden Sonntag einen Kuchen für die Nachbarn.",
        "Wegen des Sturms fuhren gestern keine Fähren mehr.",
    ),
    "fr": (
        "Nous avons attendu le train pendant plus de deux heures.",
        "La petite boulangerie du coin ferme toujours le lundi.",
        "Mon voisin répare de vieilles horloges dans son garage.",
    ),
    "ru": (
        "Вечером на площади собрались жители соседних деревень.",
        "Моя бабушка каждое утро кормит птиц за окном.",
        "Из-за дождя матч перенесли на следующую неделю.",
    ),
    "ja": (
        "駅前の小さな喫茶店で、友人とゆっくり話をしました。",
        "雨のせいで試合は来週に延期された。",
        "祖母は毎朝、庭の花に水をやります。",
    ),
    "zh": (
        "昨天晚上我们在河边散步聊了很多关于工作的事情。",
        "因为下雨,比赛推迟到了下个星期。",
        "奶奶每天早上都给花园里的花浇水。",
    ),
    "en": (
        "The old bridge across the river was closed to all traffic last winter.",
        "My sister bakes a cake for the neighbours every Sunday.",
        "Because of the storm no ferries sailed yesterday.",
    ),
}
INSTRUCTIONS = (
    "{}",
    "Translate Italian to English:{}",
    "Please put this into other words: {}",
    "Please answer in German.\n{}",
    'What does "{}" mean, and when would one say it?',
    "{}\n\nSay the text above in simple English.",
)
CUT = {"ja": 6, "zh": 6}
PYTHON = """\
def closest(values, wanted):
    best = None
    for value in values:
        if best is None or abs(value - wanted) < abs(best - wanted):
            best = value
    return best
"""


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
@pytest.mark.parametrize("language", OWN)
def test_the_input_decides_and_no_name_of_a_language(language: str, instruction: str) -> None:
    for text in OWN[language]:
        assert prompt_language(instruction.format(text), DRAFTED) == language


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_so_do_its_first_words(instruction: str) -> None:
    said = {
        (language, text): prompt_language(instruction.format(first(language, text)), DRAFTED)
        for language, some in OWN.items()
        for text in some
    }
    right = sum(found == language for (language, _), found in said.items())
    assert right >= 0.9 * len(said), said


def first(language: str, text: str) -> str:
    return text[: CUT[language]] if language in CUT else " ".join(text.split()[:3])


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
@pytest.mark.parametrize("language", SENTENCES)
def test_what_nobody_drafts_for_is_not_taken_for_another(language: str, instruction: str) -> None:
    for text in SENTENCES[language]:
        found = prompt_language(instruction.format(text), DRAFTED)
        assert found in (language, "en", None)
    assert prompt_language(SENTENCES[language][0], (*DRAFTED, language)) == language


@pytest.mark.parametrize(
    "text",
    ["", "ok", "...", "42 + 17 = 59", "x = [i for i in y]", PYTHON, PYTHON.replace("    ", "\t")],
)
def test_what_is_code_or_says_nothing_is_in_no_language(text: str) -> None:
    assert prompt_language(text, DRAFTED) is None


def test_a_question_about_a_line_of_code_is_in_the_question_s_language() -> None:
    text = f"{OWN['de'][1]} {OWN['de'][2]}\nprint(x[0])"
    assert prompt_language(text, DRAFTED) == "de"


def test_a_quoted_word_does_not_make_a_long_text_another_language() -> None:
    text = " ".join(OWN["en"])
    assert prompt_language(f'{text} They call it "Schadenfreude" there. {text}', DRAFTED) == "en"


def test_the_end_of_a_text_with_many_sentences_is_looked_at() -> None:
    head = 40 * "Answer briefly. "
    assert prompt_language(f"{head}\n{' '.join(OWN['de'])}", DRAFTED) == "de"


def test_han_is_japanese_where_the_forms_or_the_rest_of_the_text_are() -> None:
    assert prompt_language("山上有大人物", DRAFTED) == "zh"  # as it may be
    assert prompt_language("図書館駅伝競走", DRAFTED) == "ja"
    assert prompt_language("圖書館競賽", DRAFTED) == "zh"
    assert prompt_language("東京駅前広場。そこで待っています。", DRAFTED) == "ja"


@given(st.text(max_size=300))
def test_any_text_has_one_language_or_none(text: str) -> None:
    language = prompt_language(text, DRAFTED)
    assert language is None or language.isalpha()
