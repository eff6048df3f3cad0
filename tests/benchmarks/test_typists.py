"""Scripts of keys: they end in exactly the text, take the time they say, and err as they should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.benchmarks.typists import (
    ARMS,
    EDITED,
    PASTED,
    TYPIST,
    Stroke,
    compressed,
    later,
    script,
    seconds,
    sentences,
    tail,
)
from headstart.stages.prompt_document import EditError, PromptDocument

TEXT = (
    "A train leaves at noon. It takes 40 people over the hills!\n\nHow many are left at four? "
    "Nobody has counted them, and nobody will; say why."
)
LONG = "\n\n".join([TEXT] * 8)


def typed(strokes: list[Stroke]) -> str:
    """What a server has in the end."""
    document = PromptDocument(1 << 20)
    for stroke in strokes:
        done = document.replace(stroke.start, stroke.end, stroke.text)
        assert not isinstance(done, EditError), stroke
    return document.text


@pytest.mark.parametrize("arm", [*ARMS, EDITED])
@given(text=st.text(min_size=1, max_size=120), seed=st.integers(0, 1000))
def test_every_script_ends_in_the_text(arm: str, text: str, seed: int) -> None:
    assert typed(script(arm, text, seed)) == text


@pytest.mark.parametrize("arm", [*ARMS, EDITED])
@pytest.mark.parametrize("seed", range(20))
def test_every_script_ends_in_a_real_text(arm: str, seed: int) -> None:
    assert typed(script(arm, LONG, seed)) == LONG


@pytest.mark.parametrize(("arm", "per_minute"), [("240", 240), ("1200", 1200)])
def test_even_typing_has_its_speed(arm: str, per_minute: int) -> None:
    assert seconds(script(arm, LONG, 0)) == pytest.approx(60 * len(LONG) / per_minute)


def test_the_typist_pauses_takes_back_and_goes_back() -> None:
    strokes = script(TYPIST, LONG, seed=3)
    assert any(stroke.wait_s > 1 for stroke in strokes)
    backspaces = [one for one in strokes if not one.text and one.end - one.start == 1]
    assert backspaces
    lengths = [0]
    for one in strokes:
        lengths.append(lengths[-1] + len(one.text) - (one.end - one.start))
    before_the_end = [
        one for one, length in zip(strokes, lengths, strict=False) if one.end < length
    ]
    assert before_the_end
    assert 120 < 60 * len(LONG) / seconds(strokes) < 360  # characters a minute


def test_the_typist_is_another_for_another_seed() -> None:
    assert script(TYPIST, LONG, 1) == script(TYPIST, LONG, 1)
    assert script(TYPIST, LONG, 1) != script(TYPIST, LONG, 2)


def test_paragraphs_are_pasted_whole() -> None:
    assert [stroke.text for stroke in script(PASTED, TEXT, 0)] == [
        "A train leaves at noon. It takes 40 people over the hills!\n\n",
        TEXT.partition("\n\n")[2],
    ]


def test_the_late_edit_is_the_last_that_is_done_and_in_the_last_tenth() -> None:
    strokes = script(EDITED, LONG, 0)
    first = next(number for number, one in enumerate(strokes) if one.end > one.start)
    assert strokes[first].start >= 0.9 * len(LONG)
    assert all(one.end < len(LONG) for one in strokes[first:])
    assert strokes[first].wait_s > 1


def test_compressing_divides_the_waits_and_nothing_else() -> None:
    strokes = script(TYPIST, TEXT, 0)
    quick = compressed(strokes, 20)
    assert seconds(quick) == pytest.approx(seconds(strokes) / 20)
    assert typed(quick) == TEXT


def test_a_text_may_be_begun_already() -> None:
    begun = Stroke(0.0, 0, 0, TEXT[:20])
    assert typed([begun, *later(script(TYPIST, TEXT[20:], 1), 20)]) == TEXT


def test_the_tail_is_what_is_typed_within_so_long_before_the_last_key() -> None:
    strokes = [Stroke(1.0, at, at, "x") for at in range(10)]
    assert tail(strokes, 0.0) == 9
    assert tail(strokes, 2.0) == 7
    assert tail(strokes, 2.5) == 7
    assert tail(strokes, 100.0) == 0
    assert tail(strokes[:1], 0.0) == 0


def test_who_errs_takes_no_price_for_the_end_of_a_sentence() -> None:
    text = 'It costs $2.50 a day. He said "no!" Who pays?'
    assert sentences(text) == ["It costs $2.50 a day. ", 'He said "no!" ', "Who pays?"]
