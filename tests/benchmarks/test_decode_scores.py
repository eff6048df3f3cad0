"""The bars of decoding, both ways."""

from collections.abc import Mapping, Sequence

import msgspec
import pytest

from headstart.benchmarks import decode_exact, plumbing_scores
from headstart.benchmarks import decode_scores as scores
from headstart.benchmarks.checks import Check, Verdict
from headstart.benchmarks.decode_exact import MODES, Compared, Found
from headstart.benchmarks.decode_plan import FULL, QUICK, Block
from headstart.benchmarks.decode_scores import Left, Measured, Ran
from headstart.benchmarks.plumbing_scores import CROWDS, REPLAYED, Crowd, Replay, Round
from headstart.stages.drafting import Source
from headstart.stages.speculation_counts import LanguageCounts, SourceCounts, SpeculationCounts

GOOD = {
    "plain": 40.0,
    "vllm ngram": 80.0,
    "vllm long ngram": 80.0,
    "copy": 100.0,
    "auto": 100.0,
    "jacobi": 40.0,
}
MISSING = {"suffix": "not here", "draft": "none yet"}


def cell(
    task: str,
    size: int,
    speeds: Mapping[str, float] | None = None,
    *,
    jacobi: int = 110,
    said: int = 0,
    is_looping: bool = False,
) -> list[Measured]:
    """Ten blocks, in which the lanes are as fast as in a good run, or as told.

    Args:
        jacobi: Tokens of a hundred steps.
        said: Those of them that come of copying what had been said.
    """
    drafts = SourceCounts(accepted_by_grade=[0, 1, jacobi - 101 - said, said])
    counts = SpeculationCounts(
        languages={"none": LanguageCounts(100, jacobi, {Source.JACOBI: drafts})}
    )
    lanes = {
        lane: Ran([[1] * 64] * size, size * 64 / speed, size * 60 / speed, counts)
        for lane, speed in (GOOD | dict(speeds or {})).items()
    }
    known = [[1] * 64] * size
    return [
        Measured(Block(task, size, number, is_looping, ["say"] * size, known), lanes)
        for number in range(10)
    ]


def judged(found: Sequence[Measured], missing: Mapping[str, str] = MISSING) -> list[Check]:
    return list(scores.checks(found, FULL, missing, is_quick=False))


def fallen(checks: Sequence[Check]) -> set[str]:
    return {check.bar.name for check in checks if check.verdict is Verdict.FAILS}


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (cell("edit", 1), set()),
        (cell("gsm8k", 4, {"auto": 38.0}), {"auto_over_plain_gsm8k_x4"}),
        (cell("gsm8k", 16, {"copy": 70.0}), {"copy_over_ngram_gsm8k_x16"}),
        (cell("edit", 1, {"copy": 79.0}), {"copy_over_plain_edit"}),
        (cell("quote", 8, {"vllm long ngram": 110.0}), {"copy_over_long_ngram_quote_x8"}),
        (cell("spider", 1, jacobi=102), {"jacobi_tokens_per_step_stock"}),
        (cell("spider", 1, jacobi=146, said=39), set()),
        (cell("spider", 1, jacobi=146, said=40), {"jacobi_tokens_per_step_stock"}),
        ([*cell("edit", 1), *cell("edit", 1, {"auto": 10.0}, is_looping=True)], set()),
    ],
)
def test_every_task_and_load_has_its_bars(found: list[Measured], names: set[str]) -> None:
    checks = judged(found)

    assert fallen(checks) == names
    assert any(check.verdict is Verdict.HOLDS for check in checks)
    assert len({check.bar.name for check in checks}) == len(checks)


def test_what_all_take_for_the_prompt_hides_nothing() -> None:
    found = cell("gsm8k", 1, {"auto": 40.0})
    for lane, decode_s in (("plain", 1.0), ("auto", 1.05)):
        for one in found:  # of two seconds with the prompt
            one.lanes[lane].seconds, one.lanes[lane].decode_s = 1 + decode_s, decode_s

    assert fallen(judged(found)) == {"auto_over_plain_gsm8k_x1"}


def test_twice_as_fast_is_with_the_prompt() -> None:
    found = cell("edit", 1, {"plain": 40.0})
    for lane, decode_s in (("plain", 1.0), ("copy", 0.4), ("vllm ngram", 0.4)):
        for one in found:
            one.lanes[lane].seconds, one.lanes[lane].decode_s = 1 + decode_s, decode_s

    assert "copy_over_plain_edit" in fallen(judged(found))


def test_an_answer_of_one_token_has_no_decoding_speed() -> None:
    found = cell("edit", 1)
    short = Ran([[1]], 0.5, 0.0, None)
    found[0] = Measured(found[0].block, dict.fromkeys(found[0].lanes, short))

    check = next(check for check in judged(found) if check.bar.name == "auto_over_plain_edit_x1")
    assert (check.verdict, check.note) == (Verdict.HOLDS, "9 blocks")


def test_a_baseline_that_is_not_there_is_told_with_its_reason() -> None:
    found = {check.bar.name: check for check in judged(cell("gsm8k", 1))}
    suffix, draft = found["auto_over_vllm_suffix"], found["auto_over_vllm_draft_model"]

    assert (suffix.verdict, suffix.note) == (Verdict.NOT_MEASURED, "not here")
    assert (draft.verdict, draft.note) == (Verdict.NOT_MEASURED, "none yet")
    assert "gsm8k_test.jsonl" in found["auto_over_plain_gsm8k_x8"].note

    there = cell("gsm8k", 1, {"vllm suffix": 200.0})
    assert fallen(judged(there, {"draft": "none yet"})) == {"auto_over_vllm_suffix"}


def test_jacobi_steps_are_told_with_and_without_what_they_copy() -> None:
    found = cell("edit", 1, jacobi=146, said=40)
    whole = scores.tables(found, [])[0]
    rows = [dict(zip(whole.columns, row, strict=True)) for row in whole.rows]
    jacobi = next(row for row in rows if row["lane"] == "jacobi")
    check = next(one for one in judged(found) if one.bar == scores.JACOBI)

    assert jacobi["tokens_per_step"] == pytest.approx(1.46)
    assert jacobi["tokens_per_step_unsaid"] == pytest.approx(1.46 / 1.4)
    assert check.estimate is not None
    assert check.estimate.value == pytest.approx(1.46 / 1.4)
    assert "1.460 with drafts that copy what had been said" in check.note


def test_a_quick_run_says_what_it_leaves_out() -> None:
    few = cell("edit", 1)[:1]
    checks = list(scores.checks(few, QUICK, MISSING, is_quick=True))
    notes = {check.bar.name: check.note for check in checks}

    assert {check.verdict for check in checks} == {Verdict.NOT_MEASURED}
    assert notes["auto_over_plain_spider_x1"] == "not in a quick run"


def test_tables_tell_looping_answers_apart() -> None:
    found = [*cell("edit", 4), *cell("edit", 4, {"auto": 20.0}, is_looping=True)]
    found[0].lanes["auto"].answers[0] = [2] * 64
    whole, loops, left = scores.tables(found, [Left("edit", True, 3), Left("edit", False, 9)])

    rows = [dict(zip(whole.columns, row, strict=True)) for row in whole.rows]
    auto = next(row for row in rows if row["lane"] == "auto")
    assert auto["over_plain"] == pytest.approx(2.5)
    assert auto["tokens_per_step"] == pytest.approx(1.1)
    assert auto["tokens_per_step_unsaid"] is None
    assert auto["differing"] == 10  # the ten blocks share their answers
    assert auto["decode_over_plain"] == pytest.approx(2.5)
    assert auto["decode_from"] == auto["decode_to"] == pytest.approx(2.5)  # blocks are alike
    assert [row[4] for row in loops.rows if row[2] == "auto"] == [pytest.approx(0.5)]
    assert left.rows == (("edit", 3, 9),)


SAME = Compared("auto", "exact forced", 16, 64, is_same=True, gap=None)
DRAFTED = {"copy": 5, "drafter": 3, "jacobi": 1, "model": 2}


def same(num: int) -> list[Compared]:
    """So many in each mode."""
    return [msgspec.structs.replace(SAME, mode=str(mode)) for mode in MODES for _ in range(num)]


def parted(gap: float | None) -> Compared:
    return Compared("copy", "exact forced", 4, 64, is_same=False, gap=gap)


@pytest.mark.parametrize(
    ("compared", "preempted", "accepted", "names"),
    [
        (same(500), 3, DRAFTED, set()),
        ([*same(500), *[parted(0.0005)] * 10], 3, DRAFTED, set()),
        ([*same(500), *[parted(0.0005)] * 11], 3, DRAFTED, {"ties_per_500_answers"}),
        ([*same(500), parted(0.1)], 3, DRAFTED, {"answers_that_differ_without_a_tie"}),
        ([*same(500), parted(None)], 3, DRAFTED, {"answers_that_differ_without_a_tie"}),
        ([*same(499), SAME], 3, DRAFTED, {"answers_compared_in_each_mode"}),
        ([SAME] * 2500, 3, DRAFTED, {"answers_compared_in_each_mode"}),
        (same(500), 0, DRAFTED, {"preemptions_while_compared"}),
        (same(500), 3, DRAFTED | {"drafter": 0}, {"kinds_with_accepted_drafts"}),
    ],
)
def test_answers_are_exact(
    compared: list[Compared], preempted: int, accepted: dict[str, int], names: set[str]
) -> None:
    found = [Found(compared, preempted, accepted)]

    assert fallen(list(decode_exact.checks(found, is_quick=False))) == names


def test_a_wrong_answer_fails_a_quick_run_too() -> None:
    checks = list(decode_exact.checks([Found([SAME, parted(0.1)], 1, {})], is_quick=True))

    assert fallen(checks) == {"answers_that_differ_without_a_tie"}


def rounds(
    replay: float = 1.0, company: float = 1.0, decided: float = 1.0, controlled: float = 0.5
) -> list[Round]:
    """Ten rounds in which verifying nine tokens costs half as much again as one."""

    def reaching(share: float) -> dict[str, Replay]:
        return {
            str(right): Replay(right + 1, 0.02, 0.02 / ((right + 1) / 1.5 * share))
            for right in REPLAYED
        }

    crowds = {str(size): Crowd(company, 1.0, decided, 1.0, 1e-4, 0) for size in CROWDS}
    costs = {"1": 0.02, "9": 0.03}
    return [Round(costs, reaching(replay), reaching(controlled), crowds)] * 10


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (rounds(), set()),
        (rounds(replay=0.85), {f"replay_{right}_right_of_possible" for right in REPLAYED}),
        (rounds(company=1.05), {f"proposers_and_capture_of_a_step_x{size}" for size in CROWDS}),
        (rounds(decided=1.05), {f"auto_of_off_nothing_accepted_x{size}" for size in CROWDS}),
    ],
)
def test_plumbing_has_its_bars(found: list[Round], names: set[str]) -> None:
    assert fallen(list(plumbing_scores.checks(found, is_quick=False))) == names


def test_what_is_possible_is_right_tokens_over_the_cost_of_all() -> None:
    tables = plumbing_scores.tables(rounds(replay=0.95))
    replays = next(table for table in tables if table.title.startswith("Replayed drafts"))

    rows = [dict(zip(replays.columns, row, strict=True)) for row in replays.rows]
    assert [row["right"] for row in rows] == list(REPLAYED)
    assert rows[0]["over_plain"] == pytest.approx(0.95 * 3 / 1.5)
    assert rows[0]["step_cost"] == pytest.approx(1.5)
    assert all(row["of_what_is_possible"] == pytest.approx(0.95) for row in rows)


def test_what_the_controller_makes_of_replayed_drafts_is_told_and_not_judged() -> None:
    found = rounds(controlled=0.6)
    told = next(table for table in plumbing_scores.tables(found) if "controller" in table.title)

    assert [row[0] for row in told.rows] == list(REPLAYED)
    assert told.rows[0][told.columns.index("of_what_is_possible")] == pytest.approx(0.6)
    assert not fallen(list(plumbing_scores.checks(found, is_quick=False)))
