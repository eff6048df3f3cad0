"""Prompts of every length from questions that no two of them share."""

import pytest

from headstart.benchmarks.live_prompts import CLASSES, LONG, SHORT, joined, num_sentences, split
from headstart.stages.errors import SetupError

QUESTIONS = [
    f"Number {number} has {number} apples. " + "She eats one. " * (number % 6) + "How many now?"
    for number in range(600)
]


@pytest.mark.parametrize(
    ("text", "num"),
    [
        ("One", 1),
        ("One. Two", 2),
        ("It costs $2.50 a day. Who pays?", 2),
        ('He said "no!" Then?!', 2),
        ("One...\n\nTwo.", 2),
    ],
)
def test_sentences_are_counted(text: str, num: int) -> None:
    assert num_sentences(text) == num


def test_every_prompt_is_of_its_class_and_no_question_is_in_two() -> None:
    left = iter(QUESTIONS)
    texts = [text for each in CLASSES for text in joined(left, each, 5, seed=1)]
    for each, own in zip(CLASSES, (texts[:5], texts[5:10], texts[10:]), strict=True):
        assert all(each.fewest <= num_sentences(text) <= each.most for text in own)
    used = [part for text in texts for part in text.split("\n\n")]
    assert len(set(used)) == len(used)
    assert set(used) <= set(QUESTIONS)


def test_halves_have_nothing_in_common() -> None:
    quick, full = split(QUESTIONS, is_quick=True), split(QUESTIONS, is_quick=False)
    assert not set(quick) & set(full)
    assert sorted(quick + full) == sorted(QUESTIONS)


def test_too_few_questions_are_an_error() -> None:
    with pytest.raises(SetupError, match="too few questions"):
        joined(iter(QUESTIONS[:20]), LONG, 5, seed=1)
    assert joined(iter(()), SHORT, 0, seed=1) == []
