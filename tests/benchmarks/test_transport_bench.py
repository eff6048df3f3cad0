"""The grid's bars: what they compare, and that they can fail."""

from dataclasses import replace
from itertools import pairwise

import pytest

from headstart.benchmarks.channel_models import Blackouts, Link, NoLoss
from headstart.benchmarks.checks import Bar, Check, Verdict, judge
from headstart.benchmarks.estimates import exactly
from headstart.benchmarks.transport_ablation import VARIANTS, cells
from headstart.benchmarks.transport_cells import (
    SSE_SEGMENT_BYTES,
    Cell,
    Outcome,
    Score,
    duplication,
    lossless,
    ours,
    retransmission,
    steady,
)
from headstart.benchmarks.transport_exactness import Network, is_exact
from headstart.benchmarks.transport_grid import (
    ABLATION_SEEDS,
    SCORING_SEEDS,
    TUNING_SEEDS,
    UNSEEN_SEEDS,
    Group,
    Sample,
    Setting,
    paper_settings,
    wide_settings,
)
from headstart.benchmarks.transport_paper import run_paper
from headstart.benchmarks.transport_scores import Result, measure, ratio_check, worst
from headstart.benchmarks.transport_wide import cost_check

DARK = Blackouts([(0.5, 2_000.0)], NoLoss())
BURSTS = "bursts of 8, RTT 50 ms, 20 tok/s"


def quick(name: str, answers: int = 8) -> Setting:
    (setting,) = (each for each in wide_settings(Sample.quick()) if each.name == name)
    return replace(setting, cell=replace(setting.cell, seeds=range(answers)))


def outcome(excess: float) -> Outcome:
    return Outcome(excess, excess, excess, 100.0, 10, 0, 10.0, (0.0,), True)


def result(mine: float, tcp: float) -> Result:
    setting = Setting("cell", Group.LOSSY, Cell(lossless, 0.1, steady(10, 1), range(10)))
    return Result(setting, [outcome(tcp)] * 10, 2, [outcome(tcp)] * 10, [], [outcome(mine)] * 10)


@pytest.mark.parametrize("part", range(3))
def test_every_reader_of_a_random_network_gets_every_byte(part: int) -> None:
    """`headstart bench transport` runs two thousand."""
    wrong = [
        seed for seed in range(100 * part, 100 * part + 100) if not is_exact(Network.drawn(seed))
    ]

    assert wrong == []


def test_a_network_that_brings_nothing_is_not_exact() -> None:
    class Dead(Network):
        def link(self, salt: int) -> Link:
            return Link(DARK, self.rtt_s / 2)

    steps = steady(20, 2)

    assert not is_exact(Dead(1, 0.1, steps, [1] * len(steps), 1_150))


def test_seeds_of_a_full_run_are_nobody_elses() -> None:
    full, quick_sample = Sample.full(), Sample.quick()

    assert full.seed_base == SCORING_SEEDS
    assert quick_sample.seed_base == TUNING_SEEDS
    bases = sorted((TUNING_SEEDS, SCORING_SEEDS, UNSEEN_SEEDS, ABLATION_SEEDS))
    # The way up adds a million, and the exactness runs take thousands.
    assert min(b - a for a, b in pairwise(bases)) > 10_000_000


def test_the_papers_figures_are_set_beside_what_was_found() -> None:
    part = run_paper(replace(Sample.quick(), num_paper_sessions=8))

    verdicts = {check.bar.name: check.verdict for check in part.checks}
    assert verdicts["paper_channel_default_loss_error"] is Verdict.HOLDS
    assert {name for name in verdicts if name.startswith("paper_vs")} == {
        f"paper_vs_{rival}_rtt_{rtt}"
        for rival in ("retransmission", "duplication")
        for rtt in (400, 100)
    }
    assert verdicts["paper_vs_duplication_rtt_400"] is Verdict.FAILS
    assert all("paper -" in check.note for check in part.checks[3:])


def test_the_grid_spans_what_it_says() -> None:
    settings = wide_settings(Sample.full())

    assert len({setting.name for setting in settings}) == len(settings)
    assert {setting.group for setting in settings} == set(Group) - {Group.PAPER, Group.SHARED}
    rtts = {setting.cell.rtt_s for setting in settings}
    assert (min(rtts), max(rtts)) == (0.02, 0.45)
    assert any(set(setting.cell.sizes) == set(range(1, 10)) for setting in settings)
    assert len(paper_settings(Sample.full())) == 6


def test_a_cell_is_scored_against_duplication_that_costs_as_much() -> None:
    found = measure(quick(BURSTS, 4))

    cost = found.score(found.ours).bytes_per_token
    assert found.score(found.doubled).bytes_per_token >= cost
    if found.copies > 2:
        fewer = found.setting.cell.score(duplication(found.copies - 1))
        assert fewer.bytes_per_token < cost
    assert found.score(found.ours).num_incomplete == 0
    assert cost < SSE_SEGMENT_BYTES


@pytest.mark.parametrize(
    ("mine", "tcp", "verdict", "unit"),
    [
        (0.01, 0.1, Verdict.HOLDS, "ratio"),
        (0.05, 0.1, Verdict.FAILS, "ratio"),
        (0.0019, 0.0015, Verdict.HOLDS, "share of time"),
        (0.0021, 0.0015, Verdict.FAILS, "share of time"),
    ],
)
def test_a_bar_is_a_ratio_unless_the_rival_hardly_stalls(
    mine: float, tcp: float, verdict: Verdict, unit: str
) -> None:
    found = result(mine, tcp)

    check = ratio_check(found, found.tcp, 0.29, is_quick=False)

    assert (check.verdict, check.bar.unit) == (verdict, unit)


def test_every_mechanism_of_the_sender_has_a_path_that_it_is_for() -> None:
    paths = cells(Sample.quick())

    def score(path: str, variant: str) -> Score:
        (cell,) = (cell for name, cell in paths.items() if name.startswith(path))
        return cell.score(VARIANTS[variant])

    for path, variant in (
        ("random 10 %", "no redundancy"),
        ("random 20 %, RTT 50 ms", "no repeats while idle"),
        ("dark for 3 s", "no catch-up stream"),
    ):
        assert score(path, variant).excess > score(path, "default").excess + 0.005
    assert (
        score("dark at the end", "no probes").max_s
        > 0.3 + score("dark at the end", "default").max_s
    )
    paced, dear = (score("no loss", variant) for variant in ("default", "no pacing"))
    assert dear.bytes_per_token > 1.5 * paced.bytes_per_token


def test_steps_of_many_tokens_are_judged_beside_one_chunk_of_sse() -> None:
    found = result(0.0, 0.0)
    dear = [replace(each, bytes_per_step=400.0) for each in found.ours]
    steps = replace(found.setting.cell, sizes=[5] * 10)
    many = replace(found, setting=replace(found.setting, cell=steps), ours=dear)

    # 80 bytes a token, where SSE has 65: a chunk of 304 bytes has room for one token.
    assert many.score(many.ours).bytes_per_token == 80
    check = cost_check(many)
    assert (check.verdict, check.bar.unit) == (Verdict.FAILS, "ratio")
    assert cost_check(found).verdict is Verdict.HOLDS


def test_what_goes_up_is_counted_for_ours_and_for_tcp() -> None:
    cell = Cell(lossless, 0.1, steady(10, 2), [0])

    assert all(cell.score(scheme).up_bytes_per_token > 40 for scheme in (ours, retransmission))


def test_the_worst_cell_decides() -> None:
    def cell(name: str, value: float, unit: str = "ratio") -> Check:
        return judge(Bar(name, 0.3, "lower", unit), exactly(value))

    good = worst("bar", 0.3, "ratio", [cell("a", 0.1), cell("b", 0.2), cell("c", 0.25, "share")])
    other = worst("bar", 1.03, "ratio", [cell("c", 0.25, "share")])
    bad = worst("bar", 0.3, "ratio", [cell("a", 0.1), cell("b", 0.4)])

    assert (good.verdict, good.estimate) == (Verdict.HOLDS, exactly(0.2))
    assert (good.bar.unit, good.bar.limit) == ("ratio", 0.3)
    assert "1 of them judged by share ≤ 0.3" in good.note
    assert (other.bar.unit, other.bar.limit) == ("share", 0.3)
    assert bad.verdict is Verdict.FAILS
    assert "b: fails" in bad.note


def test_steps_of_many_tokens_are_one_event_and_one_frame() -> None:
    steps = Cell(lossless, 0.1, steady(10, 2), [0], sizes=[5] * 20)
    single = Cell(lossless, 0.1, steady(10, 2), [0])

    for scheme in (ours, retransmission):
        many, one = steps.score(scheme), single.score(scheme)
        assert one.bytes_per_token / 5 < many.bytes_per_token < one.bytes_per_token


def test_an_answer_that_is_given_up_counts_as_late() -> None:
    cell = Cell(lambda _: DARK, 0.1, steady(10, 1), [0])

    (found,) = cell.outcomes(retransmission)

    assert not found.is_complete
    assert found.delays_s[-1] > 500
