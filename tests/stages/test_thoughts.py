"""What models write for their actions, one way or another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.mind_prompt import MindPrompt, Noted
from headstart.stages.thoughts import ALL_ACTIONS, BASIC_ACTIONS, Kind, Thought, parse


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        ("action inference. It takes 3 hours.", Kind.INFERENCE, "It takes 3 hours."),
        ("Action Inference: it takes 3 hours.", Kind.INFERENCE, "it takes 3 hours."),
        ("**action inference**: x is 3", Kind.INFERENCE, "x is 3"),
        ("- `action inference.` 3.5 is it", Kind.INFERENCE, "3.5 is it"),
        ("inference: x", Kind.INFERENCE, "x"),
        ("action wait.", Kind.WAIT, ""),
        ("Action Wait. I need the question first.", Kind.WAIT, ""),
        ("wait", Kind.WAIT, ""),
        ("", Kind.WAIT, ""),
        (" \n ", Kind.WAIT, ""),
        ("action inference.", Kind.WAIT, ""),
        ("action wait.\naction inference. b", Kind.INFERENCE, "b"),
        ("action inference. a\naction inference. b", Kind.INFERENCE, "a\nb"),
        ("So.\naction inference. yes", Kind.INFERENCE, "So.\nyes"),
        ("The answer may be 4.", Kind.INFERENCE, "The answer may be 4."),
        ("Wait for it, the answer is 3", Kind.INFERENCE, "Wait for it, the answer is 3"),
        ("Background checks take long", Kind.INFERENCE, "Background checks take long"),
        ("action background. Trains", Kind.INFERENCE, "Trains"),
    ],
)
def test_two_actions(said: str, kind: Kind, text: str) -> None:
    assert parse(said, BASIC_ACTIONS) == Thought(kind, text)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("action background. Trains", Kind.BACKGROUND),
        ("action hypothesise. Trains", Kind.HYPOTHESISE),
        ("ACTION - HYPOTHESIZE - Trains", Kind.HYPOTHESISE),
    ],
)
def test_the_first_versions_actions(said: str, kind: Kind) -> None:
    assert parse(said, ALL_ACTIONS) == Thought(kind, "Trains")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "action background. Trains\naction inference. It takes 3 hours.",
            [(Kind.BACKGROUND, "Trains"), (Kind.INFERENCE, "It takes 3 hours.")],
        ),
        (
            "So.\naction hypothesize: when?\naction wait.\naction hypothesise. where?",
            [(Kind.INFERENCE, "So."), (Kind.HYPOTHESISE, "when?\nwhere?")],
        ),
        ("action background.\naction inference. b", [(Kind.INFERENCE, "b")]),
        (
            "inference: a\nbackground: b\ninference: c",
            [(Kind.INFERENCE, "a"), (Kind.BACKGROUND, "b"), (Kind.INFERENCE, "c")],
        ),
    ],
)
def test_each_of_several_actions_is_what_it_was_called(
    said: str, expected: list[tuple[Kind, str]]
) -> None:
    thought = parse(said, ALL_ACTIONS)
    assert [(one.kind, one.text) for one in thought.actions] == expected
    assert (thought.kind, thought.text) == expected[0]


@given(st.text(max_size=200), st.sampled_from([BASIC_ACTIONS, ALL_ACTIONS]))
def test_anything_can_be_read(said: str, actions: tuple[Kind, ...]) -> None:
    thought = parse(said, actions)
    for one in thought.actions:
        assert one.kind in actions
        assert (one.kind is Kind.WAIT) == (not one.text)
    assert thought.text or not thought.further


@given(st.sampled_from(ALL_ACTIONS), st.text(min_size=1, max_size=80))
def test_what_the_model_was_shown_is_read_as_it_was(kind: Kind, text: str) -> None:
    thought = parse(f"action {kind}. {text}", ALL_ACTIONS)
    if kind is Kind.WAIT:
        return
    assert {char for one in thought.actions for char in one.text} <= set(text) | {"\n"}


def test_several_actions_are_shown_as_they_are_read() -> None:
    said = "action background. Trains\naction inference. It takes 3 hours."
    noted = [Noted(5, parse(said, ALL_ACTIONS), 9)]
    turns = MindPrompt(actions=ALL_ACTIONS).thinking((), noted, "Train.")
    assert [one["content"] for one in turns if one["role"] == "assistant"] == [said]
