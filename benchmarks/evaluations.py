"""What the recipes' `evaluate` leaves: read for a page of docs/results, and kept beside it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.stages.errors import SetupError

__all__ = ["figures_below", "write_page"]


def figures_below(
    folder: Path, wanted: Sequence[str] | Mapping[str, Sequence[str]], recipe: str, page: str
) -> list[tuple[str, dict[str, Any]]]:
    """Read every evaluation below a folder; returns the name of each and its figures.json.

    Args:
        folder: May also be the `data` beside a page that was made of them.
        wanted: Keys that each has; in a mapping, with keys that the value of each has.
        recipe: Whose `evaluate` makes them.
        page: The page's name.

    Raises:
        SetupError: There is none, or one is damaged.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for path in sorted(folder.rglob("figures.json")) or sorted(folder.glob(f"{page}.json")):
        try:
            tree = json.loads(path.read_bytes())
            trees = tree if path.name != "figures.json" else {path.parent.name: tree}
            for each in trees.values():
                _check(each, wanted)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SetupError(f"{path} is none of `evaluate`'s: {error!r}") from error
        found += trees.items()
    if not found:
        raise SetupError(
            f"no figures.json in {folder}: `headstart recipe {recipe} evaluate` writes one"
        )
    return found


def _check(tree: Any, wanted: Sequence[str] | Mapping[str, Sequence[str]]) -> None:
    for name in wanted:
        part = tree[name]
        if isinstance(part, list):
            raise TypeError(f"{name} is a list")
        for inner in wanted[name] if isinstance(wanted, Mapping) else ():
            part[inner]


def write_page(
    page: Path, lines: Sequence[str], trees: Mapping[str, Any], indent: int | None = None
) -> None:
    """Write a page, and the evaluations that it is made of to data/ beside it.

    Args:
        trees: The figures of each evaluation, by its name.
        indent: Of their JSON.
    """
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    kept = page.parent / "data" / f"{page.stem}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(trees, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{page}: from {', '.join(trees)}")
