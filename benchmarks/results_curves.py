"""Plots of consistency training: gain over training tokens, and over answers at once."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from headstart.benchmarks.results_plots import COLOURS, STYLE, save

__all__ = ["gain_by_batch", "gain_by_tokens"]

_ARMS = {"base": COLOURS["eloquent"], "tuned": COLOURS["ours"], "rival": COLOURS["twice"]}


def gain_by_tokens(
    points: Sequence[tuple[int, float]],
    path: Path,
    *,
    line: Callable[[float], float] | None,
    base: float | None,
    bar: float | None,
) -> None:
    """Draw tokens a step over tokens of training, and what a line says of the next decade."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.4))
        axes = figure.subplots()
        axes.plot(*zip(*points, strict=True), "o-", color=COLOURS["ours"], label="measured")
        if line is not None:
            ends = np.geomspace(points[0][0], 10 * points[-1][0], 20)
            gains = [line(each) for each in ends]
            axes.plot(ends, gains, "--", color=COLOURS["ours"], label="fit", linewidth=1)
        if base is not None:
            axes.axhline(base, color=COLOURS["eloquent"], linewidth=1, label="base")
        if bar is not None:
            axes.axhline(bar, color=COLOURS["tcp"], linestyle=":", linewidth=1, label="bar")
        axes.set_xscale("log")
        axes.set_xlabel("training tokens")
        axes.set_ylabel("tokens a step")
        axes.legend(fontsize=8)
        figure.tight_layout()
        save(figure, path)


def gain_by_batch(series: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draw what Jacobi steps do to tokens a second, over answers at once."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.4))
        axes = figure.subplots()
        for arm, rows in series.items():
            points = [(row["batch"], row["speedup"]) for row in rows]
            axes.plot(*zip(*points, strict=True), "o-", color=_ARMS.get(arm), label=arm)
        axes.axhline(1, color="#1c1d21", linewidth=0.8)
        axes.set_xscale("log", base=2)
        sizes = sorted({row["batch"] for rows in series.values() for row in rows})
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("answers at once")
        axes.set_ylabel("speed-up of tokens a second")
        axes.legend(fontsize=8)
        figure.tight_layout()
        save(figure, path)
