"""Plots of the transport's results, as SVG that is the same for the same numbers."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from headstart.benchmarks.results_data import Result, Row

__all__ = ["COLOURS", "STYLE", "bytes_against_stalls", "save", "stalls_by_loss", "timelines"]

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "headstart",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
COLOURS = {"tcp": "#b3261e", "twice": "#9a6700", "eloquent": "#6a6d76", "ours": "#2857c5"}
_NAMES = {
    "tcp": "SSE over TCP",
    "twice": "duplication",
    "eloquent": "Eloquent as published",
    "ours": "ours",
}
_EXCESS = {
    "tcp": "TCP's excess",
    "twice": "duplication's excess",
    "eloquent": "Eloquent's excess",
    "ours": "our excess",
}
_RATES = (20, 100)
"""Tokens a second that are drawn; the tables have the others."""
_CELL = re.compile(r"random (\d+) %, RTT (\d+) ms, (\d+) tok/s")


def stalls_by_loss(result: Result, path: Path) -> bool:
    """Draw every scheme's excess stall over random loss, a panel for each round trip and pace.

    Returns: False where the result has no such cells.
    """
    found: dict[tuple[int, int], list[tuple[int, Row]]] = {}
    for group in ("light", "lossy", "overflow"):
        for row in result.rows(f"Cells: {group}"):
            if cell := _CELL.fullmatch(str(row["cell"])):
                loss, rtt, rate = map(int, cell.groups())
                if rate not in _RATES:
                    continue
                found.setdefault((rate, rtt), []).append((loss, row))
    if not found:
        return False
    rates, rtts = (sorted({key[index] for key in found}) for index in (0, 1))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.1 * len(rtts) + 1, 1.9 * len(rates) + 0.8))
        panels = figure.subplots(len(rates), len(rtts), sharex=True, sharey=True, squeeze=False)
        for down, rate in enumerate(rates):
            for along, rtt in enumerate(rtts):
                axes = panels[down][along]
                cells = sorted(found.get((rate, rtt), []), key=lambda each: each[0])
                for scheme, column in _EXCESS.items():
                    axes.plot(
                        [loss for loss, _ in cells],
                        [100 * _number(row[column]) for _, row in cells],
                        *("o-",),
                        color=COLOURS[scheme],
                        label=_NAMES[scheme],
                        markersize=3,
                        linewidth=1.2,
                    )
                axes.set_yscale("symlog", linthresh=1)
                axes.set_ylim(-0.1, 130)
                axes.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
                axes.minorticks_off()
                axes.set_title(f"RTT {rtt} ms, {rate} tok/s", fontsize=9)
        figure.supxlabel("packets lost at random, each way, %", fontsize=9)
        figure.supylabel("excess stall, % of the answer's time", fontsize=9)
        _finish(figure, panels[0][0], path)
    return True


def timelines(simulated: Sequence[Row], browser: Sequence[Row], path: Path) -> bool:
    """Draw how one answer grew under each scheme.

    Returns: False where neither is there.
    """
    panels = [
        (draw, rows) for draw, rows in ((_simulated, simulated), (_in_browser, browser)) if rows
    ]
    if not panels:
        return False
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(panels), 3.4))
        found = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (draw, rows) in zip(found, panels, strict=True):
            draw(axes, rows)
            axes.set_xlabel("seconds")
            axes.set_ylabel("tokens on the screen")
            axes.legend(fontsize=8)
        figure.tight_layout()
        save(figure, path)
    return True


def _simulated(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_title("in the simulator", fontsize=9)
    names = {
        "retransmission": "tcp",
        "duplication x2": "twice",
        "Eloquent as published": "eloquent",
    }
    made = [_number(row["made s"]) for row in rows if row["scheme"] == "ours"]
    axes.plot(made, range(1, len(made) + 1), ":", color="#1c1d21", label="made", linewidth=1)
    for name in dict.fromkeys(str(row["scheme"]) for row in rows):
        shown = [_number(row["shown s"]) for row in rows if row["scheme"] == name]
        colour = COLOURS[names.get(name, "ours")]
        axes.step(
            shown, range(1, len(shown) + 1), where="post", color=colour, label=name, linewidth=1
        )


def _in_browser(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_title("in Chromium, over the real link", fontsize=9)
    for name in dict.fromkeys(str(row["arm"]) for row in rows):
        own = [row for row in rows if row["arm"] == name]
        at = [_number(row["s"]) for row in own]
        scheme = "tcp" if name.startswith("SSE") else "ours"
        shown = [_number(row["tokens shown"]) for row in own]
        axes.step(at, shown, where="post", color=COLOURS[scheme], label=name, linewidth=1)
        if scheme == "ours":
            made = [_number(row["tokens made"]) for row in own]
            axes.plot(at, made, ":", color="#1c1d21", label="made", linewidth=1)


def bytes_against_stalls(result: Result, path: Path) -> bool:
    """Draw what schemes cost and what that buys, in the paper's cells.

    Returns: False where the result has none.
    """
    rows = result.rows("The paper's grid")
    cells = [name for name in dict.fromkeys(str(row["cell"]) for row in rows) if "default" in name]
    if not cells:
        return False
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(cells), 3.4))
        found = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
        for axes, cell in zip(found, cells, strict=True):
            for row in (each for each in rows if each["cell"] == cell):
                _mark(axes, row)
            axes.set_title(cell, fontsize=9)
            axes.set_xlabel("wire bytes a token")
        found[0].set_ylabel("stalled, % of the answer's time")
        found[0].set_ylim(0, 1.1 * found[0].get_ylim()[1])
        figure.tight_layout()
        save(figure, path)
    return True


def _mark(axes: Axes, row: Row) -> None:
    """One scheme's; hollow where lost tokens are repeated by a timer, and labelled below then."""
    name = str(row["scheme"])
    cost, stall = _number(row["wire bytes/token"]), 100 * _number(row["stall share"])
    label = name.replace("duplication x", "x")
    is_timed = "timer" in name
    axes.plot(
        *(cost, stall, _MARKS[_kind(name)]),
        color=COLOURS[_kind(name)],
        markersize=5,
        fillstyle="none" if is_timed else "full",
    )
    axes.annotate(
        *(label.replace(", 200 ms timer", ""), (cost, stall)),
        xytext=(-3, -10) if is_timed else (4, 3),
        textcoords="offset points",
        fontsize=7,
    )


_MARKS = {"tcp": "s", "twice": "^", "eloquent": "D", "ours": "o"}


def _kind(scheme: str) -> str:
    if scheme == "ours":
        return scheme
    if scheme.startswith("Eloquent"):
        return "eloquent"
    return "twice" if scheme.startswith("duplication") else "tcp"


def _number(value: str | float | int | None) -> float:
    assert isinstance(value, float | int)
    return float(value)


def _finish(figure: Figure, labelled: Axes, path: Path) -> None:
    lines, names = labelled.get_legend_handles_labels()
    figure.legend(lines, names, loc="upper center", ncols=len(names), fontsize=8)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a plot without what changes from run to run."""
    figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
