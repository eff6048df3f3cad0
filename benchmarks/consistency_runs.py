"""Evaluations of the consistency recipe as they lie on disk, and what they say together."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from headstart.benchmarks.evaluations import figures_below

__all__ = [
    "BARS",
    "Evaluation",
    "Fit",
    "Run",
    "best_of",
    "by_domain",
    "fitted",
    "load",
    "main_runs",
]

JUDGED = "tuned"
"""The arm that bars are about."""
BARS = {"gsm8k": 1.8, "sql": 2.4}
"""Tokens a step that are asked for, by the metric of a domain."""
_VARIED = (
    *("method", "lora_rank", "learning_rate", "batch", "accumulate", "consistency_weight"),
    *("ar_weight", "label_smoothing", "window", "copies", "augment", "refill", "weight_decay"),
    *("decay", "dtype", "seed"),
)
"""Options of training that make another run of it, and not the same one longer or shorter."""
_WANTED = {
    "asked": ("prompts", "metric", "block_tokens", "engine", "dtype"),
    "arms": ("base",),
}
"""What the page cannot do without."""
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""97.5 % quantiles of Student's t, from one degree of freedom on."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One folder that `evaluate` filled."""

    name: str
    tree: dict[str, Any]
    """Its figures.json."""

    @property
    def asked(self) -> dict[str, str]:
        return dict(self.tree["asked"])

    @property
    def arms(self) -> dict[str, dict[str, Any]]:
        """Figures by arm, the base first."""
        return dict(self.tree["arms"])

    @property
    def domain(self) -> tuple[str, str, str]:
        """Prompts, metric, and a digest of the prompts' file: empty where the figures have none."""
        digest = self.asked.get("prompts_sha256", "")[:8]
        return Path(self.asked["prompts"]).stem, self.asked["metric"], digest


@dataclass(frozen=True, slots=True)
class Run:
    """Weights that were trained, and what they reach."""

    evaluation: Evaluation
    arm: str

    @property
    def figures(self) -> dict[str, Any]:
        return self.evaluation.arms[self.arm]

    @property
    def tokens(self) -> int:
        """Of training, rounds before this one included."""
        training = self.figures["training"]
        return int(training["tokens"] + training["tokens_before"])

    @property
    def gain(self) -> float:
        """Tokens a step on answers that do not loop."""
        return float(self.figures["not_looping"]["tokens_per_step"])

    @property
    def lot(self) -> tuple[str | None, str | None]:
        """Which of the domain's prompts it was judged by."""
        return self.evaluation.asked.get("first"), self.evaluation.asked.get("num")

    @property
    def varied(self) -> dict[str, Any]:
        """What tells this way to train from others."""
        training = self.figures["training"]
        found = {name: training["options"].get(name) for name in _VARIED}
        found["block_tokens"] = self.evaluation.asked["block_tokens"]
        found["base"] = training.get("base_weights")
        found["round"] = "a later one" if training["tokens_before"] else "the first"
        return found


@dataclass(frozen=True, slots=True)
class Fit:
    """A straight line through gains over the logarithm of tokens."""

    at_one: float
    per_decade: float
    half_width: float
    """Of the slope's 95 % interval."""

    def gain(self, tokens: float) -> float:
        return self.at_one + self.per_decade * math.log10(tokens)

    def tokens(self, gain: float) -> float | None:
        """Return where the line reaches a gain; None where it does not rise."""
        power = (gain - self.at_one) / self.per_decade if self.per_decade > 0 else math.inf
        return None if power > 15 else 10**power


def load(folder: Path) -> list[Evaluation]:
    """Read every evaluation below a folder.

    Raises:
        SetupError: There is none, or one is damaged.
    """
    return [
        Evaluation(name, {key: tree[key] for key in _WANTED})
        for name, tree in figures_below(folder, _WANTED, "consistency", "consistency")
    ]


def by_domain(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Return evaluations by prompts and metric, in words: files of one name are told apart."""
    found: dict[tuple[str, str, str], list[Evaluation]] = {}
    for each in evaluations:
        found.setdefault(each.domain, []).append(each)
    names = Counter((prompts, metric) for prompts, metric, _ in found)
    return {
        f"{prompts}, {metric}" + (f", file {digest}" if names[prompts, metric] > 1 else ""): some
        for (prompts, metric, digest), some in found.items()
    }


def main_runs(evaluations: Sequence[Evaluation]) -> tuple[list[Run], list[Run]]:
    """Return the runs of the way to train that has most budgets, by tokens, and all others."""
    runs = [
        Run(each, arm)
        for each in evaluations
        for arm, figures in each.arms.items()
        if arm != "base" and "not_looping" in figures and "training" in figures
    ]
    ways: dict[str, list[Run]] = {}
    for run in runs:
        ways.setdefault(json.dumps(run.varied, sort_keys=True), []).append(run)
    if not ways:
        return [], []
    chosen = max(ways.values(), key=_extent)
    # Where weights were judged by two lots of prompts, the curve takes what most of it has.
    lots = Counter(run.lot for run in chosen)
    curve = {run.tokens: run for run in sorted(chosen, key=lambda run: lots[run.lot])}
    return [curve[tokens] for tokens in sorted(curve)], [run for run in runs if run not in chosen]


def best_of(evaluations: Sequence[Evaluation], curve: Sequence[Run]) -> Evaluation:
    """Return the evaluation of the longest run that has most answers."""
    if not curve:
        return max(evaluations, key=_trained)
    last = curve[-1]
    same = [
        each
        for each in evaluations
        if "not_looping" in (arm := each.arms.get(last.arm, {}))
        and arm.get("training") == last.figures["training"]
    ]
    return max(same, key=lambda each: int(each.arms[last.arm]["answers"]))


def _trained(evaluation: Evaluation) -> int:
    """Return the tokens that what is judged was trained on, as far as is known."""
    run = Run(evaluation, JUDGED)
    return run.tokens if "training" in evaluation.arms.get(JUDGED, {}) else 0


def _extent(way: Sequence[Run]) -> tuple[int, bool, int]:
    """Most budgets make the curve; of as many, those of what is judged and no rival's."""
    is_judged = any(run.arm == JUDGED for run in way)
    return len({run.tokens for run in way}), is_judged, max(run.tokens for run in way)


class Reached(Protocol):
    """What some tokens of training reach."""

    @property
    def tokens(self) -> int: ...
    @property
    def gain(self) -> float: ...


def fitted(runs: Sequence[Reached]) -> Fit | None:
    """Fit gains over the logarithm of tokens; None of fewer than three budgets."""
    if len(runs) < 3:
        return None
    x, y = np.log10([run.tokens for run in runs]), np.array([run.gain for run in runs])
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    at_one = float(y.mean() - slope * x.mean())
    free = len(runs) - 2
    error = math.sqrt(float(((y - at_one - slope * x) ** 2).sum()) / free / spread)
    return Fit(at_one, slope, error * _T[min(free, len(_T)) - 1])
