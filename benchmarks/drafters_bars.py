"""What is asked of drafters by language, and whether it is reached: each bar over all languages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from headstart.benchmarks.checks import Bar, Check, Verdict, judge, not_measured
from headstart.benchmarks.drafters_runs import Evaluation
from headstart.benchmarks.estimates import Estimate, over_blocks, paired_ratio
from headstart.benchmarks.language import TRAINED

__all__ = ["ACCEPTED", "KINDS", "Asked", "best_arm", "judged", "ratios"]

KINDS = {"table": "tables", "model": "neural drafters"}
_GREEDY = "0.0"
_SPEED_ARMS = ("table-PF", "table-F", "auto")
"""Of which one has to be fast enough, the same in all languages."""

ACCEPTED = Bar("tokens a step", 1.6, "higher", "tokens")
AHEAD = Bar("times", 1.0, "higher", "times")
FASTER = Bar("tokens a second, times plain", 1.15, "higher", "ratio")
NO_SLOWER = Bar("tokens a second, times plain", 0.97, "higher", "ratio")

Rows = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A bar and what became of it in each language."""

    title: str
    bar: Bar
    needed: int
    """Languages, or cells, in which it has to hold."""
    checks: Mapping[str, Check]

    @property
    def verdict(self) -> Verdict:
        """Over all: enough hold, or too many fail; else what keeps it open."""
        found = [check.verdict for check in self.checks.values()]
        if found.count(Verdict.HOLDS) >= self.needed:
            return Verdict.HOLDS
        if found.count(Verdict.FAILS) > len(found) - self.needed:
            return Verdict.FAILS
        return Verdict.NOT_MEASURED if Verdict.NOT_MEASURED in found else Verdict.UNDECIDED


def judged(found: Mapping[str, Evaluation]) -> Iterator[Asked]:
    """Judge all bars of one set.

    Args:
        found: Evaluations by language.
    """
    for kind, words in KINDS.items():
        if any(each.arm(kind, "PF") for each in found.values()):
            yield from _drafted(found, kind, words)
    arm = best_arm(found)
    name = arm or "/".join(_SPEED_ARMS)
    fast = {each: _speed(found.get(each), name, 0.0, FASTER) for each in TRAINED}
    yield Asked(f"{name}: {FASTER.name}, T = 0", FASTER, 4, fast)
    longer = {each: _timed_length(found.get(each)) for each in TRAINED}
    yield Asked(f"auto: {ACCEPTED.name}, T = 0", ACCEPTED, len(longer), longer)
    ahead = {each: _ahead_of_copying(found.get(each)) for each in TRAINED}
    yield Asked("auto: tokens a second, times copying alone, T = 0", AHEAD, len(ahead), ahead)
    slow = {
        f"{each}, T = {temperature:g}": _speed(found.get(each), "auto", temperature, NO_SLOWER)
        for each in TRAINED
        for temperature in (0.0, 1.0)
    }
    yield Asked(f"auto: {NO_SLOWER.name}", NO_SLOWER, len(slow), slow)


def _drafted(found: Mapping[str, Evaluation], kind: str, words: str) -> Iterator[Asked]:
    all_of_them = len(TRAINED)
    lengths = {each: _length(found.get(each), kind) for each in TRAINED}
    yield Asked(f"{words}: {ACCEPTED.name}", ACCEPTED, all_of_them, lengths)
    for other, title, needed in (
        ("generic", "tokens a step, times the text's alone", all_of_them),
        ("F", "tokens a step, P-F times F", all_of_them),
        ("wrong", "tokens a step, times another language's", 4),
    ):
        ratios = {each: _ahead(found.get(each), kind, other) for each in TRAINED}
        yield Asked(f"{words}: {title}", AHEAD, needed, ratios)


def _length(one: Evaluation | None, kind: str) -> Check:
    rows = one.answers(one.arm(kind, "PF"), _GREEDY) if one is not None else []
    if not rows:
        return not_measured(ACCEPTED, "")
    return judge(ACCEPTED, over_blocks(rows, _per_step))


def _ahead(one: Evaluation | None, kind: str, other: str) -> Check:
    """Whether the drafter takes fewer steps than another for the same answers."""
    ours, theirs = (
        one.answers(one.arm(kind, role), _GREEDY) if one is not None else []
        for role in ("PF", other)
    )
    if not ours or not theirs:
        return not_measured(AHEAD, "")
    ratio = paired_ratio(list(zip(ours, theirs, strict=True)), _per_step)
    return _excluding_one(ratio)


def _excluding_one(ratio: Estimate) -> Check:
    """Judge being ahead: an interval that touches 1 does not say who is."""
    check = judge(AHEAD, ratio)
    if check.verdict is Verdict.HOLDS and ratio.low <= 1:
        return Check(AHEAD, ratio, Verdict.UNDECIDED)
    return check


def _per_step(rows: Rows) -> float:
    return sum(tokens for tokens, _ in rows) / max(1, sum(steps for _, steps in rows))


def best_arm(found: Mapping[str, Evaluation]) -> str | None:
    """Return the arm that is fastest over all languages, greedily; None where none was timed."""
    timed = {arm: [_ratio(each, arm, 0.0) for each in found.values()] for arm in _SPEED_ARMS}
    known = {arm: [each.value for each in some if each] for arm, some in timed.items()}
    # In as many languages as any: one that was timed in a fast one alone is not the fastest.
    most = max(map(len, known.values()))
    rates = {arm: sum(some) for arm, some in known.items() if some and len(some) == most}
    return max(rates, key=rates.__getitem__, default=None)


def ratios(one: Evaluation, temperature: float) -> dict[str, Estimate]:
    """Return how many times the tokens a second of plain decoding each arm has."""
    turns = one.turns(temperature)
    arms = ("none", *sorted(turns[0].keys() - {"none"})) if turns else ()
    found = {arm: _ratio(one, arm, temperature) for arm in arms}
    return {arm: ratio for arm, ratio in found.items() if ratio is not None}


def _speed(one: Evaluation | None, arm: str, temperature: float, bar: Bar) -> Check:
    ratio = _ratio(one, arm, temperature)
    return not_measured(bar, "") if ratio is None else judge(bar, ratio)


def _timed_length(one: Evaluation | None) -> Check:
    """Judge what is served: a table and copying, by what each step costs."""
    turns = [] if one is None else one.turns(0.0)
    rows = [
        (int(turn["auto"]["tokens"]), int(turn["auto"]["steps"]))
        for turn in turns
        if "auto" in turn
    ]
    return judge(ACCEPTED, over_blocks(rows, _per_step)) if rows else not_measured(ACCEPTED, "")


def _ahead_of_copying(one: Evaluation | None) -> Check:
    ratio = _ratio(one, "auto", 0.0, "ngram")
    return not_measured(AHEAD, "") if ratio is None else _excluding_one(ratio)


def _ratio(
    one: Evaluation | None, arm: str, temperature: float, rival: str = "none"
) -> Estimate | None:
    turns = [] if one is None else one.turns(temperature)
    if not turns or not {arm, rival} <= turns[0].keys():
        return None
    return paired_ratio([(turn[arm], turn[rival]) for turn in turns], _rate)


def _rate(turns: Sequence[Mapping[str, float]]) -> float:
    return sum(turn["gained"] for turn in turns) / sum(turn["seconds"] for turn in turns)
