"""Answers that repeat themselves are told from those that do not."""

import pytest

from headstart.stages.looping import is_looping, is_looping_text


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [
        ([9, 9, *([1, 2, 3] * 30)], True),
        ([7] * 64, True),
        ([7] * 63, False),
        (list(range(100)), False),
        (list(range(17)) * 8, False),
        (list(range(16)) * 8, True),
    ],
)
def test_the_last_64_tokens_decide(tokens: list[int], loops: bool) -> None:
    assert is_looping(tokens) is loops


def test_text_is_looked_at_by_words_and_signs() -> None:
    assert is_looping_text("It began well. " + "And so on, and so on. " * 20)
    assert not is_looping_text(" ".join(f"word{number}." for number in range(80)))
    assert not is_looping_text("And so on. " * 3)
