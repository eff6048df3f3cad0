"""The bars of live prompts, both ways."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from headstart.benchmarks import live_scores as scores
from headstart.benchmarks.checks import Check, Verdict
from headstart.benchmarks.live_exactness import Compared, gap_in
from headstart.benchmarks.live_interference import Crowd, Rounds
from headstart.benchmarks.live_prompts import CLASSES, LONG, MIDDLE
from headstart.benchmarks.live_replay import Measured
from headstart.benchmarks.live_typing import Answered
from headstart.benchmarks.typists import ARMS, EDITED, TYPIST

LEFT = {LONG.name: 0.05, MIDDLE.name: 0.2}
"""What a good run leaves of the first token's time."""


def measured(
    arm: str,
    length: str,
    left: float | None = None,
    wasted: int = 20,
    *,
    is_whole: bool = False,
) -> Measured:
    left = LEFT.get(length, 0.8) if left is None else left
    stages_s = {"queue": 0.01, "prefill": 0.04, "decode": 0.06}
    live = Answered(left, left + 0.5, "yes", 100, 90, 8, stages_s, 110, wasted, 0.9)
    plain = Answered(1, 1.5, "yes", 100, 0, 8, {"prefill": 0.9, "decode": 0.1})
    return Measured("compressed", arm, length, 60.0, 300, is_whole, live, plain)


def everything(**worse: float) -> list[Measured]:
    """A good run, worse where `arm/class` says so."""
    cells = [(arm, each.name) for arm in ARMS for each in CLASSES] + [(EDITED, LONG.name)]
    return [
        measured(arm, length, worse.get(f"{arm}/{length}"))
        for arm, length in cells
        for _ in range(10)
    ]


def fallen(checks: Sequence[Check]) -> set[str]:
    return {check.bar.name for check in checks if check.verdict is not Verdict.HOLDS}


def test_a_good_run_holds_every_bar() -> None:
    assert fallen(list(scores.replay_checks(everything(), is_quick=False))) == set()


@pytest.mark.parametrize(
    ("where", "left", "names"),
    [
        ("240/>20", 0.08, {"first_token_p50_240_>20"}),
        ("typist/>20", 0.2, {"first_token_p50_typist_>20", "first_token_p95_typist_>20"}),
        ("1200/5-20", 0.3, {"first_token_p50_1200_5-20"}),
        ("pasted/>20", 1.0, set()),
        ("pasted/>20", 1.1, {"first_token_no_worse_pasted_>20"}),
        ("typist/1-4", 1.05, {"first_token_no_worse_typist_1-4"}),
        (f"{EDITED}/>20", 0.25, {"first_token_p50_late_edit_>20"}),
    ],
)
def test_a_worse_one_fails_its_bar_and_no_other(where: str, left: float, names: set[str]) -> None:
    checks = list(scores.replay_checks(everything(**{where: left}), is_quick=False))
    assert fallen(checks) == names


def test_every_typed_arm_is_judged_on_its_own() -> None:
    names = [bar.name for bar in scores.bars()]
    assert len(set(names)) == len(names) == 3 * 3 + 4 * 3 + 1 + 5
    checks = [*scores.replay_checks(everything(), is_quick=True)]
    assert [check.bar.name for check in checks] == names[: len(checks)]


def test_what_a_quick_run_leaves_out_is_not_measured() -> None:
    checks = list(scores.replay_checks([measured(TYPIST, "1-4")], is_quick=True))
    assert {check.verdict for check in checks} == {Verdict.NOT_MEASURED}


def test_waste_is_for_each_committed_token() -> None:
    own = [measured(TYPIST, "1-4", wasted=20), measured(TYPIST, "1-4", wasted=200)]
    assert scores.waste(own) == pytest.approx(1.1)
    (row,) = scores.replay_table(own).rows
    named = dict(zip(scores.replay_table(own).columns, row, strict=True))
    assert named["waste"] == pytest.approx(1.1)
    assert named["cached_share"] == pytest.approx(0.9)
    assert named["live_engine_s"] == pytest.approx(1.0)
    assert (named["live_first_p50_s"], named["plain_first_p50_s"]) == (0.8, 1.0)
    assert named["plain_engine_s"] == pytest.approx(1.0)
    assert (named["prompts"], named["same_answers"]) == (2, 2)
    assert (named["whole_prompts"], named["live_whole_p50_s"]) == (0, None)


def test_complete_answers_are_told_of_those_that_are_long() -> None:
    short = replace(
        measured(TYPIST, "1-4"), plain=replace(measured(TYPIST, "1-4").plain, whole_s=9)
    )
    table = scores.replay_table([short, measured(TYPIST, "1-4", is_whole=True)])
    named = dict(zip(table.columns, table.rows[0], strict=True))
    assert (named["prompts"], named["whole_prompts"], named["whole_tokens"]) == (2, 1, 8)
    assert (named["live_whole_p50_s"], named["plain_whole_p50_s"]) == (1.3, 1.5)
    assert "live_whole_p95_s" not in named


def test_a_slow_end_is_told_of_complete_answers_where_there_are_enough() -> None:
    few = [measured(arm, "1-4", is_whole=True) for arm in ARMS]
    many = [replace(one, part="real time") for one in few * 5]
    slow = [replace(one, plain=replace(one.plain, whole_s=9.0)) for one in many[:2]]
    table = scores.whole_table([*few, measured(TYPIST, "1-4"), *slow, *many[2:]])
    assert table.rows[0] == ("compressed", "1-4", 4, 1.3, 1.5, None, None)
    assert table.rows[1][:5] == ("real time", "1-4", 20, 1.3, 1.5)
    assert table.rows[1][-2:] == (1.3, 9.0)


def test_prompts_that_are_long_enough_for_their_bar_are_told_by_themselves() -> None:
    short = [measured(TYPIST, LONG.name, 0.09)] * 12
    live, plain = short[0].live, replace(short[0].plain, prompt_tokens=800)
    long = [replace(short[0], live=replace(live, first_s=0.04), plain=plain)] * 8
    (check,) = [
        one
        for one in scores.replay_checks([*short, *long], is_quick=False)
        if one.bar.name == "first_token_p50_typist_>20"
    ]
    assert check.verdict is not Verdict.HOLDS  # it is about them all
    assert "20 prompts of 100 to 800 tokens; 0.040 over the 8 of 750 and more" in check.note
    rows = scores.replay_table([*short, *long]).rows
    assert [row[2:4] for row in rows] == [(">20", 20), (">20, 750 tokens and more", 8)]


def test_stages_are_told_for_both_sides() -> None:
    live, plain = scores.stages_table([measured(TYPIST, "1-4")] * 3).rows
    columns = scores.stages_table([]).columns
    assert dict(zip(columns, live, strict=True))["prefill"] == 0.04
    assert dict(zip(columns, plain, strict=True))["prefill"] == 0.9


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.05, Verdict.HOLDS), (1.2, Verdict.FAILS), (0.9, Verdict.HOLDS)]
)
def test_interference_is_the_ratio_of_the_slowest(factor: float, verdict: Verdict) -> None:
    alone = [0.1 + 0.001 * number for number in range(40)]
    rounds = Rounds(4.0, [Crowd(alone, [factor * one for one in alone], 0, 3)] * 10)
    check = scores.interference_check(rounds, is_quick=False)
    assert check.verdict is verdict
    assert check.estimate is not None
    assert check.estimate.value == pytest.approx(factor)
    rows = scores.interference_table(rounds).rows
    assert [(row[1], row[-1]) for row in rows] == [(400, 0), (400, 30)]


@pytest.mark.parametrize(
    ("compared", "names"),
    [
        ([Compared(True, None, 100, 64, 64, 9)] * 300, set()),
        (
            [
                *[Compared(True, None, 100, 64, 64, 9)] * 299,
                Compared(False, 0.0005, 100, 64, 64, 9),
            ],
            set(),
        ),
        (
            [*[Compared(True, None, 100, 64, 64, 9)] * 299, Compared(False, 0.1, 100, 64, 64, 9)],
            {"answers_that_differ_without_a_tie"},
        ),
        (
            [*[Compared(True, None, 100, 64, 64, 9)] * 299, Compared(False, None, 100, 64, 64, 9)],
            {"answers_that_differ_without_a_tie"},
        ),
        (
            [
                *[Compared(True, None, 100, 64, 64, 9)] * 298,
                *[Compared(False, 0.0, 100, 64, 64, 9)] * 2,
            ],
            {"ties_per_500_answers"},
        ),
        (
            [
                *[Compared(True, None, 100, 90, 64, 4)] * 100,
                *[Compared(True, None, 100, 0, 64, 9)] * 100,
                *[Compared(True, None, 100, 96, 64, 9)] * 100,
            ],
            {"compared_prompts_computed_ahead"},
        ),
        ([Compared(True, None, 100, 64, 64, 4)] * 300, {"compared_prompts_computed_ahead"}),
    ],
)
def test_answers_differ_at_ties_alone_and_rarely(compared: list[Compared], names: set[str]) -> None:
    assert fallen(list(scores.exact_checks(compared, is_quick=False))) == names


def test_the_gap_is_where_the_answers_part() -> None:
    def token(best: int, second: int, gap: float) -> dict[str, object]:
        names = (f"token_id:{best}", -0.1), (f"token_id:{second}", -0.1 - gap)
        return {
            "token": names[0][0],
            "top_logprobs": [{"token": name, "logprob": value} for name, value in names],
        }

    tokens = [token(1, 9, 3.0), token(2, 8, 0.0005), token(3, 7, 0.0005)]
    assert gap_in(tokens, (1, 2, 3), (1, 8, 5)) == pytest.approx(0.0005)
    assert gap_in(tokens, (1, 2, 3), (9, 2, 3)) == pytest.approx(3.0)
    assert gap_in(tokens, (1, 2, 3), (1, 2, 4)) is None  # 7 is as good, 4 is not
    assert gap_in(tokens, (5, 2, 3), (5, 8, 3)) is None  # the plain answer is no proof
    assert gap_in(tokens, (1, 2, 4), (1, 8, 4)) == pytest.approx(0.0005)  # nor does the rest count
