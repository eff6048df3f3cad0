"""What all pages of docs/results have: how they are made, bars, and where the figures come from."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from headstart.benchmarks.results_data import Page, Results, keep, load
from headstart.benchmarks.results_text import grid, interval, plain

__all__ = ["Section", "age", "bars", "missing", "sources", "verdicts", "write"]

Section = Callable[[Results, Path], Iterator[str]]
"""Yields lines of a page, and puts plots into its folder."""

QUICK = """\
A run with `--quick` is a small sample, perhaps beside other work, and of the transport on seeds
that its policy was tuned on: it shows what this page looks like, and decides nothing.
"""

VERDICTS = {
    "holds": "hold",
    "fails": "fail",
    "undecided": "undecided",
    "not_measured": "not measured",
}


def write(page: Page, sections: Sequence[Section], source: Path, target: Path) -> int:
    """Write a page, its plots and what they are made of.

    Args:
        source: Folder with results.
        target: Folder of the page.

    Raises:
        SetupError: There is no result of the page in `source`.
    """
    found = load(source, page)
    target.mkdir(parents=True, exist_ok=True)
    for result in found.values():
        keep(result, target / "data")
    lines = [line for section in sections for line in section(found, target)]
    path = target / f"{page.name}.md"
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"{path}: from {', '.join(found)}")
    return 0


def age(found: Results) -> str:
    """Say how old the code of each result is."""
    (folders,) = {result.page.measured for result in found.values()}
    aging = ", ".join(f"`{folder}/`" for folder in folders)
    ages = "; ".join(f"{name}: {result.age}" for name, result in found.items())
    return f"- **Age**, in commits of {aging} when this page was made: {ages}."


def verdicts(found: Results) -> str:
    """Count what became of the bars."""
    all_of_them = [check["verdict"] for result in found.values() for check in result.checks]
    counts = ", ".join(f"{all_of_them.count(each)} {words}" for each, words in VERDICTS.items())
    return f"- **Of {len(all_of_them)} bars** {counts}: [each of them](#bars)."


def bars(found: Results, _target: Path) -> Iterator[str]:
    """Yield every bar."""
    yield from ("## Bars", "")
    rows = [
        (
            result.name,
            str(check["name"]),
            plain(check["value"]),
            "exact" if check["half_width"] == 0 else interval(check["low"], check["high"]),
            f"{'≤' if check['better'] == 'lower' else '≥'} {plain(check['bar'])} {check['unit']}",
            f"**{check['verdict']}**" if check["verdict"] == "fails" else str(check["verdict"]),
            str(check["note"]),
        )
        for result in found.values()
        for check in result.checks
    ]
    yield from grid(("result", "bar", "value", "95 %", "asked", "verdict", "note"), rows)
    yield ""


def sources(found: Results, _target: Path) -> Iterator[str]:
    """Yield where, when and on what code each result was measured."""
    yield from ("## Where the figures come from", "")
    rows: list[tuple[str, ...]] = []
    for result in found.values():
        tree, machine = result.tree, result.tree["machine"]
        state = "" if tree["is_tree_clean"] else ", with changes"
        rows.append(
            (
                f"[{result.name}](data/{result.name}.json)",
                f"`{result.command}`",
                str(tree["date"])[:16].replace("T", " "),
                f"{str(tree['commit'] or 'unknown')[:12]}{state}",
                result.age,
                f"{machine['cpu']}, {machine['num_cores']} cores, {machine['memory_gib']} GiB",
                plain(machine["load_average"]),
                f"{tree['duration_s'] / 60:.0f} min",
            )
        )
    columns = ("result", "command", "UTC", "commit", "code", "machine", "load before", "took")
    yield from grid(columns, rows)
    yield ""
    if any(result.tree["mode"] == "quick" for result in found.values()):
        yield QUICK


def missing(*names: str) -> Iterator[str]:
    """Yield that none of these benchmarks has been there."""
    commands = " or ".join(f"`headstart bench {name}`" for name in names)
    yield from (f"Not in these results: {commands} measures it.", "")
