"""The bars on the speed of several tokens a step, and the tables beside them.

That a lane is no slower than another is judged from first tokens on: what both take for the same
prompt would hide a part of it. That one is so many times as fast is judged with the prompt.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.decode_plan import LANES, SIZES, Block, Plan
from headstart.benchmarks.decode_tasks import COPIED, SETS, TASKS
from headstart.benchmarks.estimates import Estimate, over_blocks
from headstart.benchmarks.report import Table
from headstart.stages.drafting import Source
from headstart.stages.jacobi import SAID_GRADE
from headstart.stages.speculation_counts import SourceCounts, SpeculationCounts

__all__ = ["Left", "Measured", "Ran", "checks", "tables"]

_NO_WORSE = 0.97
_COPYING = 2.0
JACOBI = Bar("jacobi_tokens_per_step_stock", 1.05, "higher", "tokens/step")
RIVALS = {
    "suffix": Bar("auto_over_vllm_suffix", _NO_WORSE, "higher", "ratio"),
    "draft": Bar("auto_over_vllm_draft_model", _NO_WORSE, "higher", "ratio"),
}
"""Baselines that a run can do without, by engine."""

Row = tuple[str | float | int | None, ...]


class Ran(msgspec.Struct):
    """What one lane did with a block."""

    answers: list[list[int]]
    seconds: float
    """Until the last answer was whole."""
    decode_s: float
    """From first tokens to last ones, summed over answers."""
    counts: SpeculationCounts | None

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.answers))

    @property
    def speed(self) -> float:
        """Tokens a second, of all answers together."""
        return self.num_tokens / self.seconds

    @property
    def decode_speed(self) -> float:
        """Tokens a second of an answer once it has begun, mean over answers; 0 where none has more
        than a token."""
        num = sum(len(answer) - 1 for answer in self.answers if answer)
        return num / self.decode_s if self.decode_s else 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A block and what the lanes did with it."""

    block: Block
    lanes: Mapping[str, Ran]


@dataclass(frozen=True, slots=True)
class Left:
    """How many prompts of a task lead to loops, or do not."""

    task: str
    is_looping: bool
    num: int


def checks(
    found: Sequence[Measured], plan: Plan, missing: Mapping[str, str], *, is_quick: bool
) -> Iterator[Check]:
    """Judge every task at every load, on answers that do not loop.

    Args:
        missing: Why an engine is no baseline.
    """
    kept = [one for one in found if not one.block.is_looping]
    for task in TASKS:
        for size in SIZES:
            cell = [one for one in kept if (one.block.task, one.block.size) == (task, size)]
            is_planned = task in plan.tasks and size in plan.blocks
            why = _why(task) if is_planned else "not in a quick run"
            for bar, lane, rival in _bars(task, size):
                yield _compared(bar, cell, lane, rival, why, is_quick=is_quick)
    for engine, bar in RIVALS.items():
        rival = next(lane.name for lane in LANES if lane.engine == engine)
        if engine in missing:
            yield not_measured(bar, missing[engine])
        else:
            yield _compared(bar, kept, "auto", rival, _why(None), is_quick=is_quick)
    yield _jacobi(kept, is_quick=is_quick)


def _bars(task: str, size: int) -> Iterator[tuple[Bar, str, str]]:
    """Yield bar, lane and rival."""
    name = f"{task}_x{size}"
    yield Bar(f"auto_over_plain_{name}", _NO_WORSE, "higher", "ratio"), "auto", "plain"
    yield Bar(f"copy_over_ngram_{name}", _NO_WORSE, "higher", "ratio"), "copy", "vllm ngram"
    if task in COPIED:
        long = Bar(f"copy_over_long_ngram_{name}", _NO_WORSE, "higher", "ratio")
        yield long, "copy", "vllm long ngram"
        if size == 1:
            yield Bar(f"copy_over_plain_{task}", _COPYING, "higher", "ratio"), "copy", "plain"


def _compared(
    bar: Bar, cell: Sequence[Measured], lane: str, rival: str, why: str, *, is_quick: bool
) -> Check:
    """Judge a lane beside another.

    Args:
        why: There may be nothing to compare.
    """
    both = _both(cell, lane, rival)
    if not both:
        return not_measured(bar, why)
    ratio = _ratio(both) if bar.limit > 1 else _decode_ratio(both)
    return judge(bar, ratio, is_quick=is_quick, note=f"{len(both)} blocks")


def _both(cell: Sequence[Measured], lane: str, rival: str) -> list[tuple[Ran, Ran]]:
    """Return what two lanes did with the blocks that both have answered, and said something."""
    pairs = [
        (one.lanes[lane], one.lanes[rival])
        for one in cell
        if lane in one.lanes and rival in one.lanes
    ]
    return [pair for pair in pairs if all(ran.decode_speed for ran in pair)]


def _why(task: str | None) -> str:
    told = "too few prompts whose answers do not loop"
    if task in SETS:
        return f"{told}, or no --data with {SETS[task].file}: {SETS[task].rows}"
    return told


def _ratio(both: Sequence[tuple[Ran, Ran]]) -> Estimate:
    """Estimate how many times as fast one lane is as another, prompts included."""
    return _mean_ratio([one.speed / two.speed for one, two in both])


def _decode_ratio(both: Sequence[tuple[Ran, Ran]]) -> Estimate:
    """Estimate the same from first tokens on."""
    return _mean_ratio([one.decode_speed / two.decode_speed for one, two in both])


def _mean_ratio(ratios: Sequence[float]) -> Estimate:
    """Estimate a geometric mean."""
    return over_blocks(
        [math.log(ratio) for ratio in ratios], lambda drawn: math.exp(float(np.mean(drawn)))
    )


def _jacobi(kept: Sequence[Measured], *, is_quick: bool) -> Check:
    ran = [one.lanes["jacobi"].counts for one in kept if "jacobi" in one.lanes]
    counts = [each for each in ran if each is not None and each.rows]
    if not counts:
        return not_measured(JACOBI, _why(None))
    estimate = over_blocks(counts, lambda drawn: _per_step_unsaid(drawn) or 0.0)
    whole = _per_step(counts) or 0.0
    note = f"{len(counts)} answers; {whole:.3f} with drafts that copy what had been said"
    return judge(JACOBI, estimate, is_quick=is_quick, note=note)


def tables(found: Sequence[Measured], left: Sequence[Left]) -> list[Table]:
    """All there is to say."""
    kept = [one for one in found if not one.block.is_looping]
    looping = [one for one in found if one.block.is_looping]
    return [
        _speeds("Speed on answers that do not loop", kept),
        _speeds("The same on answers that loop", looping),
        _left(left),
    ]


def _left(left: Sequence[Left]) -> Table:
    tasks = dict.fromkeys(each.task for each in left)
    num = {(each.task, each.is_looping): each.num for each in left}
    rows = tuple((task, num.get((task, True), 0), num.get((task, False), 0)) for task in tasks)
    return Table("Prompts whose plain answers loop", ("task", "looping", "not_looping"), rows)


def _speeds(title: str, found: Sequence[Measured]) -> Table:
    rows: list[Row] = []
    for task, size in dict.fromkeys((one.block.task, one.block.size) for one in found):
        cell = [one for one in found if (one.block.task, one.block.size) == (task, size)]
        for lane in LANES:
            figures = _figures(lane.name, cell)
            if figures is not None:
                rows.append((task, size, lane.name, *figures))
    columns = (
        *("task", "concurrency", "lane", "tokens_per_s", "over_plain", "from", "to"),
        *("decode_over_plain", "decode_from", "decode_to"),
        *("tokens_per_step", "tokens_per_step_unsaid", "acceptance", "differing", "answers"),
    )
    return Table(title, columns, tuple(rows))


def _figures(lane: str, cell: Sequence[Measured]) -> Row | None:
    """Return a lane's figures beside the plain one's; None where it has no part in a cell."""
    both = _both(cell, lane, "plain")
    if not both:
        return None
    ran = [one for one, _ in both]
    counts = [each.counts for each in ran if each.counts is not None]
    answered = [one for one in cell if lane in one.lanes]
    return (
        sum(each.num_tokens for each in ran) / sum(each.seconds for each in ran),
        *_ends(_ratio(both)),
        *_ends(_decode_ratio(both)),
        _per_step(counts),
        _per_step_unsaid(counts) if lane == Source.JACOBI else None,
        _acceptance(counts),
        sum(_differing(one, lane) for one in answered),
        sum(len(one.lanes[lane].answers) for one in answered),
    )


def _ends(ratio: Estimate) -> Row:
    """Return a ratio and the ends of its interval, if it has one."""
    is_known = math.isfinite(ratio.half_width)
    return ratio.value, ratio.low if is_known else None, ratio.high if is_known else None


def _differing(one: Measured, lane: str) -> int:
    """Count answers that are not the plain ones: of the plain engine, those it gave beforehand."""
    others = one.block.known if lane == "plain" else one.lanes["plain"].answers
    return sum(mine != other for mine, other in zip(one.lanes[lane].answers, others, strict=True))


def _per_step(counts: Sequence[SpeculationCounts]) -> float | None:
    rows = sum(each.rows for each in counts)
    return sum(each.tokens for each in counts) / rows if rows else None


def _per_step_unsaid(counts: Sequence[SpeculationCounts]) -> float | None:
    """Return tokens per step as if none had been drafted by what had been said before.

    To copy that takes no Jacobi step; each of those tokens would have taken a step of its own.
    """
    steps = sum(each.rows + _said(each) for each in counts)
    return sum(each.tokens for each in counts) / steps if steps else None


def _said(counts: SpeculationCounts) -> int:
    source = counts.sources.get(Source.JACOBI, SourceCounts())
    return source.accepted_at(SAID_GRADE)


def _acceptance(counts: Sequence[SpeculationCounts]) -> float | None:
    sources = [source for each in counts for source in each.sources.values()]
    drafted = sum(sum(source.drafted) for source in sources)
    accepted = sum(sum(source.accepted) for source in sources)
    return accepted / drafted if drafted else None
