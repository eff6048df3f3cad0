"""A run's metrics as a picture, where matplotlib is there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["plot_bars", "plot_metrics"]

_PANELS = (("consistency", "consistency loss"), ("autoregressive", "next-token loss"))


def plot_metrics(lines: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draw each loss over samples; returns whether it could."""
    panels = [each for each in _PANELS if any(each[0] in line for line in lines)]
    figure = _figure(4.5 * max(1, len(panels)))
    if figure is None:
        return False
    for place, (name, label) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        points = [(line["samples"], line[name]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True))
        held = [
            (line["samples"], line[f"held_out_{name}"])
            for line in lines
            if f"held_out_{name}" in line
        ]
        if held:
            axes.plot(*zip(*held, strict=True), marker=".", label="not trained on")
            axes.legend()
        axes.set_xlabel("samples")
        axes.set_title(label, fontsize=10)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    return True


def plot_bars(groups: Mapping[str, Mapping[str, float | None]], label: str, path: Path) -> bool:
    """Draw a panel of bars for each group, by name; returns whether it could.

    Args:
        label: What the bars measure.
    """
    figure = _figure(4.5 * max(1, len(groups)))
    if figure is None:
        return False
    for place, (title, bars) in enumerate(groups.items(), start=1):
        axes = figure.add_subplot(1, len(groups), place)
        known = {name: value for name, value in bars.items() if value is not None}
        axes.barh(list(known)[::-1], list(known.values())[::-1])
        axes.set_xlabel(label)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    return True


def _figure(width: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return None
    figure = Figure(figsize=(width, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
