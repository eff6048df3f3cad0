"""Whatever is typed next, the stable prefix stays the beginning of the rendered prompt."""

from itertools import accumulate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headstart.stages.stable_prefix import (
    NO_TEXT,
    Boundary,
    boundary,
    common_length,
    continuations,
)

pytest.importorskip("tokenizers", reason="comes with the engine")
from tests.stages.tokenizers_of import CORPUS, FAMILIES, Rendering, family

_pieces = st.one_of(
    st.sampled_from([word for line in CORPUS for word in line.split(" ")]),
    st.sampled_from([" ", "  ", "\n", "\n\n", "\t", " \n ", "\u00a0", "\u3000", "'", "'re", "..."]),
    st.sampled_from(
        [
            "\u3002",
            "\uff0c",
            "\u0301",
            "e",
            "1",
            "12345",
            "<|im_",
            "end|>",
            "</s>",
            "[/INST]",
            "<0x0A>",
            "▁",
            "🎈",
        ]
    ),
    st.text(max_size=4),
)
texts = st.lists(_pieces, max_size=24).map("".join)


def stable(render: Rendering, text: str) -> list[int]:
    at = boundary(text)
    whole = render(text)
    others = [render(other) for other in continuations(text, at)]
    return whole[: common_length(whole, *others)]


@pytest.mark.parametrize("name", FAMILIES)
def test_more_text_changes_nothing_of_it(name: str) -> None:
    render = family(name)

    @given(texts, texts)
    @settings(max_examples=200, deadline=None)
    @example("", "\n hello")
    @example("a \n ", "\n b")
    @example("I don", "'t")
    @example("cafe", "\u0301 and")
    @example("end.", "\n\n\nnext")
    @example("end...\n\n\xa0", "next")  # what the template strips
    def holds(typed: str, rest: str) -> None:
        known = stable(render, typed)
        assert render(typed + rest)[: len(known)] == known

    holds()


@pytest.mark.parametrize("name", FAMILIES)
def test_it_keeps_up_with_the_text(name: str) -> None:
    render = family(name)
    text = "".join(CORPUS[:2]) * 4

    left = [
        len(render(typed)) - len(stable(render, typed))
        for typed in accumulate(text)
        if len(typed) > 40
    ]

    assert max(left) < 48  # white space and punctuation of the sample's code included
    assert sum(left) / len(left) < 16


def test_scripts_without_spaces_are_cut_too() -> None:
    text = CORPUS[2].removesuffix("\u3002")
    last = text.rindex("\uff01")

    assert boundary(text) == Boundary(last, last + 2)


@given(texts)
def test_a_cut_holds_while_the_text_up_to_hold_stays(text: str) -> None:
    at = boundary(text)

    assert 0 <= at.cut <= at.hold <= len(text)
    for length in range(at.hold, len(text)):
        assert boundary(text[:length] + text[length:] + "x").cut >= at.cut
    assert boundary(text[: at.hold]) == at


@given(texts, texts, texts)
def test_a_cut_is_found_where_the_text_was_edited(before: str, new: str, behind: str) -> None:
    text = before + new + behind

    found = boundary(text, since=len(before))

    assert found in (boundary(text), NO_TEXT)
    if found == NO_TEXT:
        assert boundary(text).hold <= len(before)


def test_there_is_nothing_to_cut() -> None:
    for text in ("", "word", "   word", "word   ", "\n"):
        assert boundary(text) == NO_TEXT


@given(st.lists(st.lists(st.integers(0, 1), max_size=12), min_size=1, max_size=4))
def test_common_length(lists: list[list[int]]) -> None:
    length = common_length(*lists)

    assert len({tuple(one[:length]) for one in lists}) == 1
    assert any(len(one) == length for one in lists) or len({one[length] for one in lists}) > 1
