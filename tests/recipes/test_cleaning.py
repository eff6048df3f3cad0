"""Which answers are left out."""

import pytest

from headstart.recipes.cleaning import Flaw, flaw_of, longest_run
from headstart.stages.looping import is_looping

GOOD = list(range(100))


@pytest.mark.parametrize(
    ("tokens", "flaw"),
    [
        (GOOD, None),
        ([*GOOD, *(10 * [5])], Flaw.REPETITION),
        ([*GOOD, *(9 * [5])], None),
        ([*GOOD, *(8 * [1, 2, 3, 4, 5, 6, 7, 8])], Flaw.LOOP),
        ([1, 2, 3], Flaw.SHORT),
    ],
)
def test_flaws(tokens: list[int], flaw: Flaw | None) -> None:
    assert flaw_of(tokens, has_ended=True, min_tokens=4, keeps_cut=False) == flaw


def test_an_answer_that_was_cut_is_kept_on_request() -> None:
    assert flaw_of(GOOD, has_ended=False, min_tokens=4, keeps_cut=False) == Flaw.CUT
    assert flaw_of(GOOD, has_ended=False, min_tokens=4, keeps_cut=True) is None


def test_runs_and_loops() -> None:
    assert longest_run([]) == 0
    assert longest_run([1, 1, 2, 2, 2, 1]) == 3
    assert is_looping([0, *(22 * [1, 2, 3])])
    assert not is_looping(20 * [1, 2, 3])  # too short to tell
    assert not is_looping([token // 17 for token in range(200)])
