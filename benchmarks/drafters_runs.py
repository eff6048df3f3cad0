"""Evaluations of drafters as they lie on disk: whose arms are what, by set and language."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.benchmarks.evaluations import figures_below
from headstart.benchmarks.language import TRAINED
from headstart.stages.errors import SetupError

__all__ = ["ROLES", "Evaluation", "Point", "by_set", "curves", "load"]

ROLES = ("F", "PF", "generic", "wrong")
"""Names of arms, `table-` before those of tables: what was distilled, with text besides, the text
alone, and another language's."""
_TABLE = "table-"
_WANTED = ("language", "asked", "kinds", "replayed", "replayed_rows", "learned_tokens")


@dataclass(frozen=True, slots=True)
class Point:
    """What a budget reaches."""

    tokens: int
    """That it learned: of the text or the answers, each time that training went over them."""
    gain: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One folder that `evaluate` filled."""

    name: str
    tree: dict[str, Any]
    """Its figures.json."""

    @property
    def language(self) -> str:
        return str(self.tree["language"])

    def arm(self, kind: str, role: str) -> str | None:
        """Return the name of the arm of a kind, `table` or `model`, that has a role."""
        for name, found in self.tree["kinds"].items():
            if found == kind and name.removeprefix(_TABLE) == role:
                return str(name)
        return None

    def answers(self, arm: str | None, temperature: str) -> list[tuple[int, int]]:
        """Return tokens and steps of each answer; nothing where the arm was not replayed."""
        rows = self.tree["replayed_rows"].get(temperature, {})
        return [(tokens, steps) for tokens, steps in rows.get(arm, ())]

    def turns(self, temperature: float) -> list[dict[str, dict[str, float]]]:
        """Return what each arm had in each timed turn without an answer that loops."""
        return [
            row["arms"]
            for row in self.tree.get("timed_rows", ())
            if row["temperature"] == temperature and not row["loops"]
        ]

    def num_looping(self, temperature: float) -> int:
        """Count the timed turns in which an arm's answer loops."""
        rows = self.tree.get("timed_rows", ())
        return sum(row["temperature"] == temperature and row["loops"] for row in rows)

    def points(self, kind: str) -> list[Point]:
        """Return what each budget of a kind reaches; of several at one budget, the last."""
        greedy = self.tree["replayed"].get("0.0", {})
        found = {
            num: float(length)
            for name, num in self.tree["learned_tokens"].items()
            if self.tree["kinds"].get(name) == kind
            and (length := greedy.get(name, {}).get("accepted_length")) is not None
        }
        return [Point(num, found[num]) for num in sorted(found)]

    @property
    def is_of_roles(self) -> bool:
        return any(self.arm(kind, role) for kind in ("table", "model") for role in ROLES)

    @property
    def is_of_languages(self) -> bool:
        """Whether its arms are each the drafter of the language that it is called by."""
        languages = {name.removeprefix(_TABLE) for name in self.tree["kinds"]}
        return bool(languages) and languages <= set(TRAINED)


def load(folder: Path) -> list[Evaluation]:
    """Read every evaluation below a folder.

    Raises:
        SetupError: There is none, or one is damaged.
    """
    return [
        Evaluation(name, tree)
        for name, tree in figures_below(folder, _WANTED, "drafter", "drafters")
    ]


def by_set(evaluations: Iterable[Evaluation]) -> dict[str, dict[str, Evaluation]]:
    """Return evaluations by set and language.

    Raises:
        SetupError: Two are of one language in one set.
    """
    found: dict[str, dict[str, Evaluation]] = {}
    for each in evaluations:
        some = found.setdefault(str(each.tree["asked"]), {})
        if each.language in some:
            raise SetupError(
                f"{some[each.language].name} and {each.name} are both of {each.tree['asked']} "
                f"in {each.language}: leave one of them out"
            )
        some[each.language] = each
    return found


def curves(evaluations: Sequence[Evaluation]) -> Iterator[tuple[Evaluation, str, list[Point]]]:
    """Yield what drafters of a kind reach at several budgets, greedily."""
    for each in evaluations:
        if each.is_of_roles or each.is_of_languages:
            continue
        for kind in dict.fromkeys(each.tree["kinds"].values()):
            points = each.points(kind)
            if len(points) > 1:
                yield each, str(kind), points
