"""Tables and checks of a run on real sockets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from headstart.benchmarks.checks import Bar, Check, Verdict, judge, not_measured
from headstart.benchmarks.estimates import exactly
from headstart.benchmarks.report import Table
from headstart.benchmarks.socket_faults import Fault, Result
from headstart.benchmarks.socket_readers import Arm
from headstart.benchmarks.socket_scores import Answer, Block
from headstart.benchmarks.transport_cells import SSE_SEGMENT_BYTES, Outcome
from headstart.benchmarks.transport_grid import Group, Setting
from headstart.benchmarks.transport_scores import Result as Compared
from headstart.benchmarks.transport_scores import ratio_check, worst
from headstart.benchmarks.transport_wide import DUPLICATION_BAR, TCP_BAR
from headstart.stages.carrier_ladder import Rung

__all__ = [
    "LATE_S",
    "NO_WORSE",
    "Found",
    "cells_table",
    "checks",
    "exactness_check",
    "faults_table",
    "struck_check",
    "undisturbed",
]

NO_WORSE = 1.03
STRUCK_BAR = 0.9
"""On the worst paths an answer may end before datagrams carry it alone."""
LATE_S = 0.01
"""A block in which a hundredth of the link's own deliveries is later is run again: then the machine
has stalled, whoever was measured."""


@dataclass(slots=True)
class Found:
    """A cell's blocks, by arm."""

    setting: Setting
    blocks: dict[Arm, list[Block]]
    num_repeats: int = 0

    @property
    def is_disturbed(self) -> bool:
        """Whether the machine stalled in each of a block's tries."""
        return any(block.late_p99_s > LATE_S for some in self.blocks.values() for block in some)

    def answers(self, arm: Arm) -> list[Answer]:
        """All of an arm's."""
        return [answer for block in self.blocks[arm] for answer in block.answers]

    def outcomes(self, arm: Arm) -> list[Outcome]:
        """Theirs."""
        return [answer.outcome for answer in self.answers(arm)]

    def beside(self, arm: Arm) -> Compared:
        """Ours beside a rival's, as the simulator compares them."""
        return Compared(self.setting, self.outcomes(arm), 0, (), (), self.outcomes(Arm.OURS))


def cells_table(cells: Sequence[Found]) -> Table:
    rows: list[tuple[str | float | int | None, ...]] = []
    for found in cells:
        mine = fmean(outcome.excess for outcome in found.outcomes(Arm.OURS))
        for arm in found.blocks:
            answers = found.answers(arm)
            score = found.beside(arm).score(found.outcomes(arm))
            gaps = np.array([gap for answer in answers for gap in answer.gaps_s])
            num_tokens = sum(answer.num_tokens for answer in answers)
            rows.append(
                (
                    found.setting.name,
                    arm.value,
                    len(answers),
                    score.loss,
                    score.stall,
                    score.excess,
                    mine / score.excess if score.excess > 0 else None,
                    score.paper_stall,
                    1e3 * score.p95_s,
                    1e3 * float(np.quantile(gaps, 0.5)),
                    1e3 * float(np.quantile(gaps, 0.99)),
                    score.bytes_per_token,
                    sum(answer.up_bytes for answer in answers) / num_tokens,
                    score.num_incomplete,
                    1e3 * max(block.late_p99_s for block in found.blocks[arm]),
                    max(block.others_cores for block in found.blocks[arm]),
                )
            )
    columns = (
        "cell",
        "arm",
        "answers",
        "loss",
        "stall",
        "excess stall",
        "ours / its",
        "paper stall",
        "p95 delay ms",
        "gap p50 ms",
        "gap p99 ms",
        "bytes/token",
        "up bytes/token",
        "given up",
        "link late p99 ms",
        "others' cores",
    )
    return Table("Real sockets", columns, tuple(rows))


def checks(cells: Sequence[Found], arms: Sequence[Arm], *, is_quick: bool) -> list[Check]:
    lossy = [found for found in cells if found.setting.group is Group.LOSSY]
    clean = [found for found in cells if found.setting.group is Group.CLEAN]
    checks: list[Check] = []
    for arm, name in ((Arm.CUBIC, "cubic"), (Arm.BBR, "bbr")):
        bars = (
            ("sockets_excess_stall_vs_tcp_" + name, TCP_BAR, lossy, _stall_check),
            ("sockets_stall_without_loss_vs_tcp_" + name, NO_WORSE, clean, _stall_check),
            ("sockets_p95_delay_without_loss_vs_tcp_" + name, NO_WORSE, clean, _delay_check),
        )
        for title, limit, some, check in bars:
            if arm not in arms:
                why = f"no TCP {name} on a lossy path here"
                checks.append(not_measured(Bar(title, limit, "lower", "ratio"), why))
                continue
            each = [check(found, arm, limit, is_quick) for found in some]
            checks.append(worst(title, limit, "ratio", each))
    duplication = Bar("sockets_excess_stall_vs_duplication", DUPLICATION_BAR, "lower", "ratio")
    checks.append(not_measured(duplication, "nobody's kernel duplicates: in the simulator only"))
    costs = [
        judge(
            Bar(found.setting.name, SSE_SEGMENT_BYTES, "lower", "wire bytes/token"),
            exactly(found.beside(Arm.OURS).score(found.outcomes(Arm.OURS)).bytes_per_token),
        )
        for found in [*lossy, *clean]
    ]
    unit = "wire bytes/token"
    return [*checks, worst("sockets_wire_bytes_per_token", SSE_SEGMENT_BYTES, unit, costs)]


def _stall_check(found: Found, arm: Arm, limit: float, is_quick: bool) -> Check:
    compared = found.beside(arm)
    return undisturbed(
        found.is_disturbed, ratio_check(compared, compared.tcp, limit, is_quick), is_quick
    )


def _delay_check(found: Found, arm: Arm, limit: float, is_quick: bool) -> Check:
    """Of delays too short to be stalls, too: the 95th percentile beyond the link's own."""
    compared = found.beside(arm)
    bar = Bar(found.setting.name, limit, "lower", "ratio")
    check = judge(bar, compared.p95_ratio(compared.tcp), is_quick=is_quick)
    return undisturbed(found.is_disturbed, check, is_quick)


def undisturbed(is_disturbed: bool, check: Check, is_quick: bool) -> Check:
    """Nothing is decided on a machine that others had busy."""
    if is_disturbed and check.verdict is not Verdict.NOT_MEASURED:
        verdict = Verdict.NOT_MEASURED if is_quick else Verdict.UNDECIDED
        check = replace(check, verdict=verdict)
    return check


def faults_table(results: Sequence[Result]) -> Table:
    rows: list[tuple[str | float | int | None, ...]] = []
    for fault in Fault:
        some = [result for result in results if result.case.fault is fault]
        if not some:
            continue
        times = sorted(result.seconds for result in some)
        rows.append(
            (
                fault.value,
                len(some),
                sum(result.problem is None for result in some),
                sum(result.is_struck for result in some),
                sum(result.last_rungs == {Rung.DATAGRAMS} for result in some),
                sum(result.num_lost for result in some),
                times[len(times) // 2],
                times[-1],
            )
        )
    columns = (
        *("what happens", "answers", "exact", "by datagrams then", "by datagrams at its end"),
        *("packets lost", "median s", "longest s"),
    )
    return Table("Answers through faults", columns, tuple(rows))


def struck_check(results: Sequence[Result]) -> Check:
    """Whether faults came upon datagrams: an event stream would prove nothing of them."""
    missed = [result for result in results if not result.is_struck]
    bar = Bar("sockets_faults_amid_datagrams", STRUCK_BAR, "higher", "share")
    note = f"{len(results)} answers" + "".join(
        f"; {result.case.seed}, {result.case.fault}: read by an event stream alone"
        for result in missed[:6]
    )
    return judge(bar, exactly(1 - len(missed) / len(results)), note=note)


def exactness_check(results: Sequence[Result]) -> Check:
    wrong = [result for result in results if result.problem is not None]
    bar = Bar("sockets_byte_identical_answers", 1.0, "higher", "share")
    note = f"{len(results)} answers" + "".join(
        f"; {result.case.seed}, {result.case.fault}: {result.problem}" for result in wrong[:6]
    )
    return judge(bar, exactly(1 - len(wrong) / len(results)), note=note)
