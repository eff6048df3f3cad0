# ruff: noqa: RUF001 - the texts are in other scripts
"""Texts of many languages are cut into sentences and clauses, and nothing of them is lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages import language as languages
from headstart.stages import segmenter as segmenter_module
from headstart.stages.segmenter import AUTO, Granularity, ends_a_phrase, segment_ends, segmenter


def pieces(text: str, granularity: Granularity, language: str = "en") -> list[str]:
    ends = segment_ends(text, granularity, language)
    return [text[start:end] for start, end in pairwise([0, *ends])]


@pytest.mark.parametrize(
    ("language", "text", "num_sentences"),
    [
        ("en", "Dr. Smith paid $3.14 to the U.S. Navy. He left! Why?", 3),
        ("de", "Das ist z. B. ein Test. Am 3. Mai kam er an.", 2),
        ("fr", "Il est 3,5 fois plus grand. Elle attend.", 2),
        ("ru", "Это тест. А это второй!", 2),
        ("el", "Τι κάνεις; Είμαι καλά.", 2),
        ("ja", "今日は天気がいい。明日は雨でしょう？はい！", 3),
        ("zh", "你好世界。今天很好！", 2),
        ("hi", "यह एक वाक्य है। यह दूसरा है।", 2),
        ("ar", "كيف حالك؟ أنا بخير.", 2),
        ("my", "မင်္ဂလာပါ။ နေကောင်းလား။", 2),
        ("am", "ሰላም ነው። ደህና ነኝ።", 2),
        ("xx", "No such language. Cut all the same.", 2),
    ],
)
def test_sentences(language: str, text: str, num_sentences: int) -> None:
    assert len(pieces(text, Granularity.SENTENCE, language)) == num_sentences


def test_a_text_may_tell_its_language() -> None:
    german = "Das ist ein kurzer Test, bzw. Versuch mit der Bahn. Er kam am 3. Mai in Bonn an."
    english = "The train leaves from St. Pancras station on Monday. It takes Mr. Smith two hours."
    languages.load()
    told = {text: segmenter(Granularity.SENTENCE, AUTO) for text in (german, english)}
    for text, language in ((german, "de"), (english, "en")):
        assert told[text](text) == segment_ends(text, language=language)
    assert segment_ends(german, language="de") != segment_ends(german, language="en")
    # What is too short to tell goes on in the language before.
    assert told[german]("Am 3. Mai") == segment_ends("Am 3. Mai", language="de")
    assert segment_ends("Am 3. Mai", language="de") != segment_ends("Am 3. Mai", language="en")


def test_nobody_waits_for_the_model_of_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter_module, "is_loaded", lambda: False)
    monkeypatch.setattr(segmenter_module, "language_of", lambda _: pytest.fail("it was asked"))
    text = "Dr. Smith is here. He left."
    assert segmenter(Granularity.SENTENCE, AUTO)(text) == segment_ends(text)


def test_clauses_end_at_marks_but_not_within_numbers() -> None:
    text = "The train has 1,000 seats, and leaves at 12:30; how many are free? None."
    assert pieces(text, Granularity.CLAUSE) == [
        "The train has 1,000 seats, ",
        "and leaves at 12:30; ",
        "how many are free? ",
        "None.",
    ]


def test_short_clauses_go_with_the_next() -> None:
    text = "However, it is, as they say, too late."
    assert pieces(text, Granularity.CLAUSE) == ["However, it is, ", "as they say, ", "too late."]


def test_text_without_sentences_is_cut_where_there_is_space() -> None:
    text = "word " * 200
    assert all(len(one) <= 401 for one in pieces(text, Granularity.SENTENCE))
    assert segment_ends("x" * 2000 + " word" * 100) == [2001, 2401, 2500]
    assert segment_ends("x" * 10_000) == [4096, 8192, 10_000]


TEXTS = st.text(st.characters() | st.sampled_from("\xa0\u3000\u2028 .!?。\n\"')"), max_size=300)


@given(TEXTS, st.sampled_from(Granularity))
def test_segments_are_the_text(text: str, granularity: Granularity) -> None:
    ends = segment_ends(text, granularity)
    assert (ends[-1] if ends else 0) == len(text)
    assert all(first < second for first, second in pairwise([0, *ends]))


@pytest.mark.parametrize(
    "text",
    ["A\u1680\u2029.\n\n。]", "U.S\xa0.\n\n...", "\u3000.\u2028‚\n‚", "a\ud800 .\xa0. B"],
)
def test_what_the_library_cannot_take(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert segment_ends(text)[-1] == len(text)
    assert not capfd.readouterr().err


def test_phrases_end_with_marks() -> None:
    texts = ("", " ", "a", "a ", "a. ", "い。", "3\n", "so,")
    assert [ends_a_phrase(text) for text in texts] == [
        *(False, False, False, False, True, True, False, True)
    ]
