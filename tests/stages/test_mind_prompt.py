"""Text and thoughts as messages: nothing is lost, and the default only ever appends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.mind_prompt import Format, MindPrompt, Noted
from headstart.stages.thoughts import ALL_ACTIONS, Kind, Thought

TEXT = "The train leaves at 3. It takes an hour. When is it there?"
NOTED = (
    Noted(23, Thought(Kind.INFERENCE, "It leaves at 3."), 9),
    Noted(35, Thought(Kind.WAIT, ""), 3),
    Noted(41, Thought(Kind.INFERENCE, "It is there at 4."), 9),
)
HISTORY = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})


def flat(messages: list[dict[str, str]]) -> str:
    """A chat template: what comes later never changes what comes before."""
    return "".join(f"<{one['role']}>{one['content']}" for one in messages)


def test_parts_and_thoughts_take_turns() -> None:
    prompt = MindPrompt(instructions="Be brief.")
    system, *turns = prompt.answering((), NOTED, TEXT, is_complete=True)
    assert system["content"].startswith("Be brief.\n\n")
    assert [one["role"] for one in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert turns[0]["content"] == TEXT[:23]
    assert turns[1]["content"] == "action inference. It leaves at 3."
    assert turns[2]["content"] == TEXT[23:41]  # a wait is not shown
    assert turns[4]["content"] == TEXT[41:] + " [end]"


def test_old_text_thoughts_and_new_text() -> None:
    prompt = MindPrompt(Format.UA_PIL)
    _, *turns = prompt.thinking((), NOTED, TEXT)
    assert [one["role"] for one in turns] == ["user", "assistant", "user"]
    assert turns[0]["content"] == TEXT[:41]
    assert "leaves at 3" in turns[1]["content"]
    assert "there at 4" in turns[1]["content"]
    assert turns[2]["content"] == TEXT[41:]


def test_a_prompt_for_each_stage() -> None:
    prompt = MindPrompt(Format.TWO_PROMPTS, "Be brief.")
    thinking = prompt.thinking(HISTORY, NOTED, TEXT)
    answering = prompt.answering(HISTORY, NOTED, TEXT, is_complete=True)
    assert thinking[0] != answering[0]
    assert thinking[1:] == answering[1:]
    plain = prompt.answering(HISTORY, NOTED[1:2], TEXT, is_complete=True)
    assert plain == [
        {"role": "system", "content": "Be brief."},
        *HISTORY,
        {"role": "user", "content": TEXT},
    ]


def test_actions_that_are_not_offered_are_not_named() -> None:
    (system, *_) = MindPrompt().thinking((), (), TEXT)
    assert "inference" in system["content"]
    assert "hypothesise" not in system["content"]
    (system, *_) = MindPrompt(actions=ALL_ACTIONS).thinking((), (), TEXT)
    assert "hypothesise" in system["content"]


def test_only_the_default_is_prefix_friendly() -> None:
    assert [form for form in Format if form.is_prefix_friendly] == [Format.UA_SPI]


THOUGHTS = st.lists(st.tuples(st.integers(1, 20), st.sampled_from(["", "so", "then"])), max_size=6)


@given(THOUGHTS, st.text(max_size=20), st.text(max_size=20))
def test_every_prompt_begins_with_the_one_before(
    thoughts: list[tuple[int, str]], rest: str, more: str
) -> None:
    prompt, noted, text = MindPrompt(), list[Noted](), ""
    before = flat(prompt.answering(HISTORY, (), "", is_complete=False))
    for length, said in thoughts:
        text += "t" * length
        asked = flat(prompt.thinking(HISTORY, noted, text))
        assert asked.startswith(before)
        kind = Kind.INFERENCE if said else Kind.WAIT
        noted.append(Noted(len(text), Thought(kind, said), 1))
        before = asked
    typed = flat(prompt.answering(HISTORY, noted, text + rest, is_complete=False))
    assert typed.startswith(before)
    for longer in (
        flat(prompt.answering(HISTORY, noted, text + rest + more, is_complete=False)),
        flat(prompt.answering(HISTORY, noted, text + rest + more, is_complete=True)),
    ):
        assert longer.startswith(typed)


@pytest.mark.parametrize("form", Format)
@given(THOUGHTS, st.text(max_size=20))
def test_no_text_is_lost(form: Format, thoughts: list[tuple[int, str]], rest: str) -> None:
    prompt, noted, text = MindPrompt(form), list[Noted](), ""
    for length, said in thoughts:
        text += "t" * length
        kind = Kind.INFERENCE if said else Kind.WAIT
        noted.append(Noted(len(text), Thought(kind, said), 1))
    messages = prompt.answering((), noted, text + rest, is_complete=False)
    typed = "".join(one["content"] for one in messages if one["role"] == "user")
    assert typed == text + rest
