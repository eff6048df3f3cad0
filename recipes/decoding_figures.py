"""What decoding both ways comes to, from what was noted turn by turn, with 95 % intervals."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["GROUPS", "Part", "change_of", "figures_of", "summed"]

GROUPS = ("not_looping", "looping")
Part = dict[str, float]
"""Of answers that were asked for together: tokens, steps and seconds, both ways.

`rows` counts the step that computes a prompt and samples its first token; what is timed
(`plain_…`, `jacobi_…`, `steps`, `step_s`) leaves that step and that token out.
"""
_LEAST_FOR_INTERVAL = 10
_RESAMPLES = 1000


def figures_of(
    turns: Iterable[Mapping[str, Any]], seed: int
) -> tuple[dict[str, Any], list[list[int]]]:
    """Return figures of all turns, and the plain answers."""
    plain: list[list[int]] = []
    parts: dict[str, list[Part]] = {name: [] for name in GROUPS}
    different = 0
    for turn in turns:
        plain += turn["answers"]
        different += turn["different"]
        for name in GROUPS:
            parts[name] += turn[name]
    figures: dict[str, Any] = {"answers_that_differ": different}
    return figures | {name: _told(some, seed) for name, some in parts.items() if some}, plain


def summed(parts: Sequence[Part]) -> Part:
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def _told(parts: Sequence[Part], seed: int) -> dict[str, Any]:
    totals = summed(parts)
    found: dict[str, Any] = {"answers": int(totals["num"]), "tokens_per_step": _gain(totals)}
    measures = {"tokens_per_step": _gain}
    if "said" in totals:
        found["tokens_per_step_unsaid"] = _gain_unsaid(totals)
        measures["tokens_per_step_unsaid"] = _gain_unsaid
    # Answers of one token have no steps besides the prompt's.
    timed = [part for part in parts if part.get("plain_tokens", 0) and part["jacobi_tokens"]]
    if timed:
        totals = summed(timed)
        found |= {
            "step_cost": _step_cost(totals),
            "tokens_per_s_plain": _plain(totals),
            "tokens_per_s_jacobi": _jacobi(totals),
            "speedup": _speedup(totals),
            "of_what_steps_give": _of_steps(totals),
        }
        for name, measure in (("speedup", _speedup), ("of_what_steps_give", _of_steps)):
            found[f"{name}_95"] = _interval(timed, measure, seed)
    for name, measure in measures.items():
        found[f"{name}_95"] = _interval(parts, measure, seed)
    return found


def _gain(part: Part) -> float:
    return part["tokens"] / max(1, part["rows"])


def _gain_unsaid(part: Part) -> float:
    """As if each token of a draft that began with what had been said had taken a step.

    To copy that takes no Jacobi step: what is left is the least that the weights foresee.
    """
    return part["tokens"] / max(1, part["rows"] + part["said"])


def _step_cost(part: Part) -> float:
    """A Jacobi step's time in the model against a plain one's."""
    return part["step_s"] / part["steps"] / (part["plain_step_s"] / part["plain_steps"])


def _plain(part: Part) -> float:
    return part["plain_tokens"] / part["plain_s"]


def _jacobi(part: Part) -> float:
    return part["jacobi_tokens"] / part["jacobi_s"]


def _speedup(part: Part) -> float:
    return _jacobi(part) / _plain(part)


def _of_steps(part: Part) -> float:
    """The speed-up against what tokens a step and their cost would give, prompts' steps apart."""
    gain = part["jacobi_tokens"] / (part["rows"] - part["num"])
    return _speedup(part) * _step_cost(part) / gain


def _interval(
    parts: Sequence[Part], measure: Callable[[Part], float], seed: int
) -> list[float] | None:
    """Return the ends of a measure's 95 % interval, by a bootstrap over what was asked together."""
    if len(parts) < _LEAST_FOR_INTERVAL:
        return None
    columns = {name: np.array([part[name] for part in parts]) for name in parts[0]}
    found = [
        measure({name: float(column[some].sum()) for name, column in columns.items()})
        for some in _resampled(len(parts), seed)
    ]
    return [float(each) for each in np.quantile(found, (0.025, 0.975))]


def _resampled(num: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(num, size=(_RESAMPLES, num))


def change_of(
    mine: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]], seed: int
) -> dict[str, Any]:
    """Return by how much a loss on the same answers is above another's, as a share.

    Args:
        mine: Loss and tokens of each answer, by the prompt's id.
    """
    pairs = np.array([(mine[name][0], theirs[name][0]) for name in theirs if name in mine])
    if not len(pairs):
        return {}
    ours, others = pairs.sum(axis=0)
    found: dict[str, Any] = {"loss_change": float(ours / others - 1), "loss_change_95": None}
    if len(pairs) >= _LEAST_FOR_INTERVAL:
        sums = pairs[_resampled(len(pairs), seed)].sum(axis=1)
        ends = np.quantile(sums[:, 0] / sums[:, 1] - 1, (0.025, 0.975))
        found["loss_change_95"] = [float(each) for each in ends]
    return found
