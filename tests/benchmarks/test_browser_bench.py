"""Answers of a browser are scored by what could be seen, and each bar can fail."""

from dataclasses import replace

import pytest

from headstart.benchmarks.browser_cells import BrowserSample, Part, part_of
from headstart.benchmarks.browser_orders import Arm, Cost, Drawn, Heap
from headstart.benchmarks.browser_report import Measured, checks, tables
from headstart.benchmarks.browser_rig import Round, Seen, _seen
from headstart.benchmarks.checks import Check, Verdict
from headstart.benchmarks.socket_orders import Made
from headstart.benchmarks.socket_report import LATE_S

EPOCH, GIVEN_UP, ONE_WAY_S = 100.0, 120.0, 0.05
MADE = Made([EPOCH + each for each in (0.10, 0.12, 0.14, 0.16)], ["One", " two", " ünd", " 🙂"])
"""3, 4, 4 and 3 units of a page's text."""


def drawn(*steps: tuple[float, int], is_done: bool = True, text: str = "One two ünd 🙂") -> Drawn:
    at, lengths = zip(*steps, strict=True)
    return Drawn(
        "a", EPOCH + 0.01, [EPOCH + each for each in at], list(lengths), None, text, is_done
    )


def test_a_token_is_seen_once_all_of_its_text_is() -> None:
    shown = drawn((0.17, 5), (0.45, 11), (0.47, 14))

    seen = _seen(shown, MADE, ONE_WAY_S, EPOCH, GIVEN_UP)

    assert seen.first_s == pytest.approx(0.16)
    assert seen.gaps_s == pytest.approx([0.28, 0.02])
    assert [tokens for _, _, tokens in seen.steps] == [1, 3, 4]
    assert [made for _, made, _ in seen.steps] == [4, 4, 4]
    assert seen.ended_s == pytest.approx(0.47)
    # Due 100 ms after it could be here: the second from 0.27 on, and the last is here at 0.47.
    assert seen.stall == pytest.approx((0.47 - 0.27) / (0.47 - 0.10))
    assert seen.is_done
    assert seen.is_exact


@pytest.mark.parametrize("text", ["One two two ünd 🙂", "One ünd 🙂", "One two ünd"])
def test_a_lost_or_repeated_character_is_wrong(text: str) -> None:
    seen = _seen(drawn((0.2, 14), text=text), MADE, ONE_WAY_S, EPOCH, GIVEN_UP)

    assert not seen.is_exact


def test_what_was_given_up_counts_as_seen_then_and_as_far_as_it_got() -> None:
    some = drawn((0.17, 5), is_done=False, text="One tw")
    none = Drawn(asked_at=EPOCH)

    assert _seen(some, MADE, ONE_WAY_S, EPOCH, GIVEN_UP).gaps_s == pytest.approx([19.83])
    assert _seen(some, MADE, ONE_WAY_S, EPOCH, GIVEN_UP).is_exact
    nothing = _seen(none, Made([]), ONE_WAY_S, EPOCH, GIVEN_UP)
    assert nothing.first_s == pytest.approx(20.0)
    assert nothing.stall == 1.0


def a_round(
    gap_s: float, *, first_s: float = 0.2, ended_s: float = 6.7, late_s: float = 0.0
) -> Round:
    seen = Seen(first_s, [0.02, gap_s], [(0.2, 1, 1)], 0.1, 0.1, ended_s, None, True, True, 0.017)
    return Round([seen] * 4, 150.0, 60.0, 0.1, late_s, 0.1)


def measured() -> Measured:
    """All bars hold."""
    found = Measured()
    for part in Part:
        found.cells[part] = {Arm.OURS: [a_round(0.1)] * 8, Arm.SSE: [a_round(0.8)] * 8}
    found.fresh = {Arm.OURS: [a_round(0.3)], Arm.SSE: [a_round(0.8)]}
    found.reloads = [a_round(0.1)]
    found.costs = {arm: [Cost(200, 0.16, 0.05, 0.06)] * 8 for arm in Arm}
    found.heaps = [Heap(number, 1_000_000 + number, 150, 9) for number in range(10, 110, 10)]
    found.heaps.append(Heap(100, 1_000_100, 150, 9, is_after_idling=True))
    return found


def verdicts(found: Measured, *, is_quick: bool = False) -> dict[str, Verdict]:
    judged: list[Check] = checks(found, is_quick=is_quick)
    return {check.bar.name: check.verdict for check in judged}


def test_each_bar_holds_where_it_should() -> None:
    assert set(verdicts(measured()).values()) == {Verdict.HOLDS}


def test_each_bar_can_fail() -> None:
    found = measured()
    found.cells[Part.PAUSES][Arm.OURS][0] = a_round(0.21)
    found.cells[Part.HARD][Arm.OURS] = [a_round(0.3)] * 8
    found.cells[Part.CLEAN][Arm.OURS] = [a_round(0.1, first_s=0.25)] * 8
    found.cells[Part.DARK][Arm.OURS][0] = a_round(0.1, ended_s=7.1)
    torn = a_round(0.1)
    found.reloads = [replace(torn, seen=[replace(torn.seen[0], is_exact=False)])]
    found.costs[Arm.OURS] = [Cost(200, 0.4, 0.3, 0.06)] * 8
    found.heaps[-1] = Heap(100, 1_200_000, 250, 9, is_after_idling=True)

    assert set(verdicts(found).values()) == {Verdict.FAILS}


def test_a_busy_machine_and_a_small_sample_decide_nothing() -> None:
    found = measured()
    found.cells[Part.PAUSES][Arm.OURS][0] = a_round(0.5, late_s=2 * LATE_S)

    assert verdicts(found)["browser_gaps_above_200_ms"] is Verdict.UNDECIDED
    assert verdicts(found, is_quick=True)["browser_gaps_above_200_ms"] is Verdict.NOT_MEASURED


def test_tables_say_what_was_seen() -> None:
    in_a_browser, timeline, costs, heaps = tables(measured())

    assert len(in_a_browser.rows) == 2 * (len(Part) + 1)
    assert all(len(row) == len(in_a_browser.columns) for row in in_a_browser.rows)
    assert {row[0] for row in timeline.rows} == set(Arm)
    assert costs.rows[0][3] == pytest.approx(0.8)
    assert heaps.rows[-1] == (100, 1_000_100, 150, 9, 1)


@pytest.mark.parametrize("sample", [BrowserSample.full(), BrowserSample.quick()])
def test_a_sample_measures_every_part_on_seeds_of_its_own(sample: BrowserSample) -> None:
    assert set(sample.rounds) == set(Part)
    seeds = [sample.seed(part, number) for part in Part for number in (0, 1, 1_000, 2_000)]
    assert len(set(seeds)) == len(seeds)
    assert all(part_of(part).cell.rtt_s > 0 for part in Part)


def test_a_full_run_reads_as_many_answers_as_its_bars_ask_for() -> None:
    full = BrowserSample.full()

    assert full.num_pages * full.rounds[Part.PAUSES] >= 100
    assert full.num_stayed == 8 * 60
