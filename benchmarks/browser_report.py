"""Tables and checks of a run in a browser."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median

import numpy as np

from headstart.benchmarks.browser_cells import Part
from headstart.benchmarks.browser_orders import Arm, Cost, Heap
from headstart.benchmarks.browser_rig import Round, Seen
from headstart.benchmarks.checks import Bar, Check, Verdict, judge
from headstart.benchmarks.estimates import (
    Estimate,
    Floats,
    exactly,
    over_blocks,
    paired_ratio,
    pooled,
    quantile,
)
from headstart.benchmarks.report import Table
from headstart.benchmarks.socket_cells import DARK
from headstart.benchmarks.socket_report import LATE_S, NO_WORSE

__all__ = ["Cells", "Measured", "checks", "tables"]

PAUSE_S = 0.2
GAP_BAR = 0.25
DARK_BAR_S = 0.5
COST_BAR_S = 0.001
GROWTH_BAR = 0.05
"""Of the heap, from the fourth hour to the eighth: what a browser learns about code is no leak."""

Cells = dict[Arm, list[Round]]
Value = str | float | int | None


def _cells() -> Cells:
    return {arm: [] for arm in Arm}


@dataclass(slots=True)
class Measured:
    """All that was measured."""

    cells: dict[Part, Cells] = field(default_factory=lambda: {part: _cells() for part in Part})
    fresh: Cells = field(default_factory=_cells)
    """In pages that had read nothing before."""
    reloads: list[Round] = field(default_factory=list)
    costs: dict[Arm, list[Cost]] = field(default_factory=dict)
    heaps: list[Heap] = field(default_factory=list)
    num_repeats: int = 0

    @property
    def rounds(self) -> list[Round]:
        """Every one of them."""
        cells = [*self.cells.values(), self.fresh]
        return [each for cell in cells for some in cell.values() for each in some] + self.reloads


def checks(found: Measured, *, is_quick: bool) -> list[Check]:
    """One for each bar."""
    return [
        _pauses(found.cells[Part.PAUSES], is_quick=is_quick),
        _gaps(found.cells[Part.HARD], is_quick=is_quick),
        _first_text(found.cells[Part.CLEAN], is_quick=is_quick),
        _dark(found.cells[Part.DARK]),
        _reloads(found.reloads),
        _exact(found.rounds),
        *_costs(found.costs, is_quick=is_quick),
        *_heaps(found.heaps, is_quick=is_quick),
    ]


def _seen(rounds: Sequence[Round]) -> list[Seen]:
    return [each for some in rounds for each in some.seen]


def _gaps_of(rounds: Sequence[Round]) -> Floats:
    return pooled([np.array(each.gaps_s) for each in _seen(rounds)])


def _num_pauses(rounds: Sequence[Round]) -> int:
    return int(np.sum(_gaps_of(rounds) > PAUSE_S))


def _settled(check: Check, rounds: Sequence[Round], *, is_quick: bool) -> Check:
    """Nothing is decided by rounds in which the machine stalled, each time that they were tried."""
    if all(each.late_p99_s <= LATE_S for each in rounds):
        return check
    late = max(each.late_p99_s for each in rounds)
    verdict = Verdict.NOT_MEASURED if is_quick else Verdict.UNDECIDED
    note = f"{check.note}; the link's own deliveries were {1e3 * late:.0f} ms late: a busy machine"
    return replace(check, verdict=verdict, note=note)


def _pauses(cell: Cells, *, is_quick: bool) -> Check:
    ours, theirs = _num_pauses(cell[Arm.OURS]), _num_pauses(cell[Arm.SSE])
    bar = Bar("browser_gaps_above_200_ms", 0, "lower", "gaps")
    note = (
        f"{len(_seen(cell[Arm.OURS]))} answers, longest gap "
        f"{1e3 * _gaps_of(cell[Arm.OURS]).max():.0f} ms; SSE: {theirs} gaps, "
        f"{1e3 * _gaps_of(cell[Arm.SSE]).max():.0f} ms"
    )
    check = judge(bar, exactly(float(ours)), note=note)
    if is_quick:  # a hundred answers are asked for
        check = replace(check, verdict=Verdict.NOT_MEASURED)
    return _settled(check, [*cell[Arm.OURS], *cell[Arm.SSE]], is_quick=is_quick)


def _pairs(cell: Cells) -> list[tuple[Round, Round]]:
    return list(zip(cell[Arm.OURS], cell[Arm.SSE], strict=True))


def _gaps(cell: Cells, *, is_quick: bool) -> Check:
    def p99_s(rounds: Sequence[Round]) -> float:
        return quantile(_gaps_of(rounds), 0.99)

    bar = Bar("browser_gap_p99_vs_sse", GAP_BAR, "lower", "ratio")
    note = f"{1e3 * p99_s(cell[Arm.OURS]):.0f} ms beside {1e3 * p99_s(cell[Arm.SSE]):.0f} ms"
    check = judge(bar, paired_ratio(_pairs(cell), p99_s), is_quick=is_quick, note=note)
    return _settled(check, [*cell[Arm.OURS], *cell[Arm.SSE]], is_quick=is_quick)


def _first_text(cell: Cells, *, is_quick: bool) -> Check:
    def first_s(rounds: Sequence[Round]) -> float:
        return fmean(each.first_s for each in _seen(rounds))

    bar = Bar("browser_first_text_vs_sse_without_loss", NO_WORSE, "lower", "ratio")
    note = f"{1e3 * first_s(cell[Arm.OURS]):.0f} ms beside {1e3 * first_s(cell[Arm.SSE]):.0f} ms"
    check = judge(bar, paired_ratio(_pairs(cell), first_s), is_quick=is_quick, note=note)
    return _settled(check, [*cell[Arm.OURS], *cell[Arm.SSE]], is_quick=is_quick)


def _dark(cell: Cells) -> Check:
    """The link's darkness is counted from the moment of asking, as the answers' times are."""
    ours, theirs = (
        [each.ended_s - DARK[1] for each in _seen(cell[arm])] for arm in (Arm.OURS, Arm.SSE)
    )
    bar = Bar("browser_complete_after_5_s_dark", DARK_BAR_S, "lower", "s")
    note = (
        f"the latest of {len(ours)} answers; median {median(ours):.2f}, SSE's {median(theirs):.2f}"
    )
    return judge(bar, exactly(max(ours)), note=note)


def _reloads(rounds: Sequence[Round]) -> Check:
    seen = _seen(rounds)
    bar = Bar("browser_wrong_after_reload", 0, "lower", "answers")
    wrong = sum(not (each.is_exact and each.is_done) for each in seen)
    return judge(bar, exactly(float(wrong)), note=f"{len(seen)} answers, each reloaded twice")


def _exact(rounds: Sequence[Round]) -> Check:
    seen = _seen(rounds)
    bar = Bar("browser_wrong_answers", 0, "lower", "answers")
    wrong = sum(not each.is_exact for each in seen)
    given_up = sum(not each.is_done for each in seen)
    note = f"{len(seen)} answers of either arm; of {given_up} given up, what was shown counts"
    return judge(bar, exactly(float(wrong)), note=note)


def _costs(costs: dict[Arm, list[Cost]], *, is_quick: bool) -> list[Check]:
    def per_frame(of: Callable[[Cost], float], arm: Arm) -> Estimate:
        def statistic(drawn: Sequence[Cost]) -> float:
            return sum(map(of, drawn)) / sum(each.num_frames for each in drawn)

        return over_blocks(costs[arm], statistic)

    parts: dict[str, Callable[[Cost], float]] = {
        "main_thread": lambda each: each.task_s,
        "script": lambda each: each.script_s,
    }
    return [
        judge(
            Bar(f"browser_{name}_per_frame", COST_BAR_S, "lower", "s"),
            per_frame(of, Arm.OURS),
            is_quick=is_quick,
            note=f"SSE's {1e3 * per_frame(of, Arm.SSE).value:.2f} ms",
        )
        for name, of in parts.items()
    ]


def _heaps(heaps: Sequence[Heap], *, is_quick: bool) -> list[Check]:
    awake = [heap for heap in heaps if not heap.is_after_idling]
    later = awake[len(awake) // 2 :]
    growth = (heaps[-1].bytes - later[0].bytes) / later[0].bytes
    note = (
        f"{later[0].bytes / 2**20:.2f} to {heaps[-1].bytes / 2**20:.2f} MiB in the second half of "
        f"{awake[-1].num_answers} answers, and after eight idle hours of the page's clock"
    )
    heap = judge(
        Bar("browser_heap_growth", GROWTH_BAR, "lower", "share"), exactly(growth), note=note
    )
    if is_quick:
        heap = replace(heap, verdict=Verdict.NOT_MEASURED)
    first, last = awake[0], heaps[-1]
    left = max(0, last.num_listeners - first.num_listeners) + max(
        0, last.num_nodes - max(each.num_nodes for each in awake[: len(awake) // 2])
    )
    things = Bar("browser_nodes_and_listeners_left", 0, "lower", "things")
    return [heap, judge(things, exactly(float(left)))]


def tables(found: Measured) -> list[Table]:
    """What was seen, and one answer of each arm as it appeared."""
    cells = {part.value: cell for part, cell in found.cells.items()}
    cells[f"{Part.PAUSES.value}, no session yet"] = found.fresh
    rows = [_row(name, arm, cell[arm]) for name, cell in cells.items() for arm in Arm]
    columns = (
        *("cell", "arm", "answers", "loss", "first text ms", "gap p50 ms", "gap p99 ms"),
        *("longest gap ms", "gaps > 200 ms", "stall", "paper stall", "complete after s"),
        *("bytes/token", "up bytes/token", "climbed after s", "given up", "longest frame ms"),
        *("link late p99 ms", "others' cores"),
    )
    return [
        Table("In a browser", columns, tuple(rows)),
        _timeline(found.cells[Part.HARD]),
        _cost_table(found.costs),
        Table(
            "A page that stays open",
            ("answers", "heap bytes", "nodes", "listeners", "after idling"),
            tuple(
                (h.num_answers, h.bytes, h.num_nodes, h.num_listeners, int(h.is_after_idling))
                for h in found.heaps
            ),
        ),
    ]


def _row(name: str, arm: Arm, rounds: Sequence[Round]) -> tuple[Value, ...]:
    seen, gaps = _seen(rounds), _gaps_of(rounds)
    climbed = [each.climbed_s for each in seen if each.climbed_s is not None]
    return (
        name,
        arm.value,
        len(seen),
        fmean(each.loss for each in rounds),
        1e3 * fmean(each.first_s for each in seen),
        1e3 * quantile(gaps, 0.5),
        1e3 * quantile(gaps, 0.99),
        1e3 * float(gaps.max()),
        int(np.sum(gaps > PAUSE_S)),
        fmean(each.stall for each in seen),
        fmean(each.paper_stall for each in seen),
        fmean(each.ended_s for each in seen),
        fmean(each.bytes_per_token for each in rounds),
        fmean(each.up_bytes_per_token for each in rounds),
        median(climbed) if climbed else None,
        sum(not each.is_done for each in seen),
        1e3 * max(each.longest_frame_s for each in seen),
        1e3 * max(each.late_p99_s for each in rounds),
        max(each.others_cores for each in rounds),
    )


def _timeline(cell: Cells) -> Table:
    """The answer of each arm whose stall is the median one."""
    rows: list[tuple[Value, ...]] = []
    for arm in Arm:
        seen = sorted(_seen(cell[arm]), key=lambda each: each.stall)
        steps = seen[len(seen) // 2].steps
        rows += [(arm.value, round(at, 4), made, shown) for at, made, shown in steps]
    title = f"One answer in a browser: {Part.HARD.value}"
    return Table(title, ("arm", "s", "tokens made", "tokens shown"), tuple(rows))


def _cost_table(costs: dict[Arm, list[Cost]]) -> Table:
    rows: list[tuple[Value, ...]] = []
    for arm, some in costs.items():
        num_frames = sum(each.num_frames for each in some)
        parts = (
            sum(each.task_s for each in some),
            sum(each.script_s for each in some),
            sum(each.layout_s for each in some),
        )
        rows.append(
            (arm.value, len(some), num_frames, *(1e3 * part / num_frames for part in parts))
        )
    columns = ("arm", "answers", "frames", "all ms/frame", "script ms/frame", "layout ms/frame")
    return Table("The main thread's time", columns, tuple(rows))
