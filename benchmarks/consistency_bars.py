"""What is asked of consistency-tuned weights, and whether it is reached."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from headstart.benchmarks.consistency_runs import BARS, Evaluation, Fit, Run
from headstart.benchmarks.results_text import grid, percent, plain

__all__ = ["bars", "share_right"]


def share_right(figures: dict[str, Any]) -> str:
    """Return the share of right answers with its 95 % interval, in words."""
    if (share := figures.get("right")) is None:
        return "-"
    num, z = figures["answers"], 1.96
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num)) / (1 + z * z / num)
    return f"{100 * share:.1f} % ({100 * (middle - half):.1f}-{100 * (middle + half):.1f})"


def bars(best: Evaluation, curve: Sequence[Run], fit: Fit | None) -> Iterator[str]:
    rows = list(_judged(best, curve, fit))
    if rows:
        yield from grid(("bar", "value", "asked", "verdict", "note"), rows)
        yield ""


def _judged(
    best: Evaluation, curve: Sequence[Run], fit: Fit | None
) -> Iterator[tuple[str, str, str, str, str]]:
    base, tuned = best.arms["base"], best.arms.get("tuned", {})
    part = tuned.get("not_looping", {})
    bar = BARS.get(best.asked["metric"])
    if bar is not None and part:
        gain, note = part["tokens_per_step"], ""
        if gain < bar and fit is not None:
            falls = fit.tokens(bar)
            where = f"{falls:.2g} tokens" if falls is not None else "no budget in sight"
            note = f"the curve reaches it at {where}"
        yield ("tokens a step", plain(gain), f"≥ {bar}", _verdict(gain >= bar), note)
    if "step_cost" in part and part.get("tokens_per_s_plain"):
        could = part["tokens_per_s_plain"] * part["tokens_per_step"] / part["step_cost"]
        share = part["tokens_per_s_jacobi"] / could
        yield (
            "tokens a second, of what steps give",
            plain(share),
            "≥ 0.9",
            _verdict(share >= 0.9),
            "",
        )
    if "perplexity_on_base" in tuned:
        losses = [math.log(each["perplexity_on_base"]) for each in (base, tuned)]
        worse = losses[1] / losses[0] - 1
        yield ("loss on the base's answers", percent(worse), "≤ 2 %", _verdict(worse <= 0.02), "")
    if best.asked["metric"] == "sql" and "right" in base:
        yield (
            "the base's right",
            percent(base["right"]),
            "≥ 50 %",
            _verdict(base["right"] >= 0.5),
            "",
        )
        if "right_alone" in tuned:
            num, won, lost = tuned["answers"], tuned["right_alone"], tuned["wrong_alone"]
            change = (won - lost) / num
            half = 1.96 * math.sqrt(max(won + lost - (won - lost) ** 2 / num, 0)) / num
            interval = f"95 %: {percent(change - half)} to {percent(change + half)}"
            holds = _verdict(change - half >= -0.015)
            if change - half < -0.015 <= change + half:
                holds = "undecided"
            yield ("right, against the base", percent(change), "≥ -1.5 %", holds, interval)
    if curve:
        yield ("points of the curve", str(len(curve)), "≥ 5", _verdict(len(curve) >= 5), "")


def _verdict(holds: bool) -> str:
    return "holds" if holds else "**fails**"
