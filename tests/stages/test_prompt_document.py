"""A document that is edited is what a plain string would be."""

from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.prompt_document import Edit, EditError, PromptDocument

edits = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.text(max_size=8)),
        st.tuples(
            st.just("replace"), st.integers(-2, 30), st.integers(-2, 30), st.text(max_size=8)
        ),
        st.tuples(st.just("clear")),
    ),
    max_size=30,
)


@given(edits)
def test_is_a_string(script: list[tuple]) -> None:  # type: ignore[type-arg]
    document, text = PromptDocument(max_chars=40), ""
    for version, (kind, *rest) in enumerate(script):
        before = document.version
        if kind == "clear":
            outcome: Edit | EditError = document.clear()
            expected: str | None = ""
        else:
            start, end, new = rest if kind == "replace" else (len(text), len(text), rest[0])
            outcome = document.replace(start, end, new) if len(rest) > 1 else document.append(new)
            expected = text[:start] + new + text[end:] if 0 <= start <= end <= len(text) else None
            if expected is None:
                assert outcome is EditError.OUT_OF_RANGE
            elif len(expected) > 40:
                assert outcome is EditError.TOO_LONG
        if isinstance(outcome, EditError):
            assert (document.text, document.version) == (text, before)
            continue
        assert expected is not None
        assert document.version == before + 1 <= version + 1
        assert expected[: outcome.start] == text[: outcome.start]
        assert not outcome.is_append or expected.startswith(text)
        text = expected
        assert document.text == text


def test_positions_count_code_points() -> None:
    document = PromptDocument(max_chars=10)
    document.append("日🎈é")

    assert document.replace(1, 2, "本") == Edit(1, is_append=False)

    assert document.text == "日本é"
