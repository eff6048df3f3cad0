"""What is asked of consistency-tuned weights, and whether it is reached."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from headstart.benchmarks.checks import Bar, Verdict, judge
from headstart.benchmarks.consistency_runs import BARS, JUDGED, Evaluation, Fit, Run
from headstart.benchmarks.estimates import Estimate, exactly, wilson
from headstart.benchmarks.results_text import grid, percent, plain

__all__ = ["bars", "share_right"]

_Z = 1.96
_GIVEN = Bar("tokens a second, of what steps give", 0.9, "higher", "ratio")
_LOSS = Bar("loss on the base's answers, change", 0.02, "lower", "share")
_ABLE = Bar("the base's right", 0.5, "higher", "share")
_WITHIN = Bar("right, against the base", -0.015, "higher", "share")
_POINTS = Bar("points of the curve", 5, "higher", "")
_WORDS = {Verdict.FAILS: "**fails**"}


def share_right(figures: dict[str, Any]) -> str:
    """Return the share of right answers with its 95 % interval, in words."""
    if figures.get("right") is None:
        return "-"
    found = _right(figures)
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f}-{100 * found.high:.1f})"


def _right(figures: dict[str, Any]) -> Estimate:
    """Return the share of right answers."""
    return wilson(round(figures["right"] * figures["answers"]), figures["answers"])


def bars(
    best: Evaluation, curve: Sequence[Run], fit: Fit | None, others: Sequence[Evaluation] = ()
) -> Iterator[str]:
    """Yield a table of bars and verdicts.

    Args:
        others: Evaluations of the same domain, one of which may know more of what is right.
    """
    rows = list(_judged(best, curve, fit, others))
    if rows:
        yield from grid(("bar", "value", "asked", "verdict", "note"), rows)
        yield ""


def _judged(
    best: Evaluation, curve: Sequence[Run], fit: Fit | None, others: Sequence[Evaluation]
) -> Iterator[tuple[str, ...]]:
    tuned = best.arms.get(JUDGED, {})
    part = tuned.get("not_looping", {})
    limit = BARS.get(best.asked["metric"])
    if limit is not None and part:
        bar = Bar("tokens a step", limit, "higher", "tokens")
        yield _row(bar, _noted(part, "tokens_per_step"), _where(limit, part, fit))
    if "of_what_steps_give" in part:
        yield _row(_GIVEN, _noted(part, "of_what_steps_give"))
    if "loss_change" in tuned:
        yield _row(_LOSS, _noted(tuned, "loss_change"))
    if best.asked["metric"] == "sql":
        known = _most_answers(best, others)
        if "right" in known.arms["base"]:
            yield _row(_ABLE, _right(known.arms["base"]))
        if "right_alone" in known.arms.get(JUDGED, {}):
            yield _row(_WITHIN, _change(known.arms[JUDGED]))
    if curve:
        yield _row(_POINTS, exactly(len(curve)))


def _most_answers(best: Evaluation, others: Sequence[Evaluation]) -> Evaluation:
    """Return the evaluation of the same weights that has most answers to be right."""

    def weights(one: Evaluation) -> list[str | None]:
        return [one.arms.get(name, {}).get("fingerprint") for name in ("base", JUDGED)]

    def is_same(one: Evaluation) -> bool:
        is_known = None not in weights(best)
        return is_known and weights(one) == weights(best) and "right" in one.arms["base"]

    same = [best, *filter(is_same, others)]
    return max(same, key=lambda one: int(one.arms["base"].get("answers", 0)))


def _change(figures: dict[str, Any]) -> Estimate:
    """Return how many more are right than of the base, of answers to the same prompts.

    The interval is that of Agresti and Min (Statistics in Medicine 24, 2005), half an answer more
    in each of the four cells: a hundred pairs that agree do not say that all do.
    """
    num, won, lost = figures["answers"], figures["right_alone"], figures["wrong_alone"]
    middle = (won - lost) / (num + 2)
    half = _Z * math.sqrt(won + lost + 1 - (won - lost) ** 2 / (num + 2)) / (num + 2)
    return Estimate((won - lost) / num, middle - half, middle + half, num)


def _noted(figures: dict[str, Any], name: str) -> Estimate:
    """Return a figure with its interval; that of too few answers has no end."""
    low, high = figures.get(f"{name}_95") or (-math.inf, math.inf)
    return Estimate(figures[name], low, high, int(figures["answers"]))


def _where(limit: float, part: dict[str, Any], fit: Fit | None) -> str:
    if part["tokens_per_step"] >= limit or fit is None:
        return ""
    falls = fit.tokens(limit)
    where = f"{falls:.2g} tokens" if falls is not None else "no budget in sight"
    return f"the curve reaches it at {where}"


def _row(bar: Bar, estimate: Estimate, note: str = "") -> tuple[str, ...]:
    verdict = judge(bar, estimate).verdict
    shown = percent if bar.unit == "share" else plain
    notes = [note] if note else []
    if bar.unit:
        known = math.isfinite(estimate.high)
        ends = f"{shown(estimate.low)} to {shown(estimate.high)}" if known else "too few answers"
        notes.append(f"95 %: {ends}, {estimate.num_blocks} answers")
    asked = f"{'≥' if bar.better == 'higher' else '≤'} {shown(bar.limit)}"
    value = shown(estimate.value)
    return bar.name, value, asked, _WORDS.get(verdict, str(verdict)), "; ".join(notes)
