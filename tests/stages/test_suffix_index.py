"""The index says what a scan of everything would."""

from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.suffix_index import Match, SuffixIndex

TOKENS = st.lists(st.integers(0, 3), max_size=60)


def longest_repeat(tokens: list[int]) -> int:
    """Length of the longest suffix that also ends earlier, by looking everywhere."""
    return max(
        (
            length
            for length in range(1, len(tokens))
            for end in range(length, len(tokens))
            if tokens[end - length : end] == tokens[-length:]
        ),
        default=0,
    )


@given(TOKENS)
def test_match_is_the_longest_there_is(tokens: list[int]) -> None:
    index = SuffixIndex()
    for number, token in enumerate(tokens, start=1):
        index.extend([token])
        seen = tokens[:number]
        match = index.match or Match(0, 0)

        assert match.length == longest_repeat(seen)
        if match.length:
            assert match.end < number
            assert seen[match.end - match.length : match.end] == seen[-match.length :]


@given(TOKENS, st.integers(0, 80))
def test_continuation_is_what_followed(tokens: list[int], length: int) -> None:
    index = SuffixIndex(tokens)

    found = index.continuation(length)

    if index.match is None:
        assert found == []
    else:
        # Written out, each token repeats the one that lies a period before it.
        whole = tokens + found
        period = len(tokens) - index.match.end
        assert len(found) == length
        assert all(whole[at] == whole[at - period] for at in range(len(tokens), len(whole)))


def test_recent_occurrence_is_preferred() -> None:
    assert SuffixIndex([1, 2, 7, 1, 2, 8, 1, 2]).match == Match(2, 5)


@given(st.integers(1000, 4000))
def test_states_stay_linear(length: int) -> None:
    """What bounds time and memory: a suffix automaton has fewer than two states a token."""
    index = SuffixIndex((number * number) % 7 for number in range(length))

    assert len(index._next) < 2 * length
