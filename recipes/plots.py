"""A run's metrics as a picture, where matplotlib is there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["plot_metrics"]

_PANELS = (("consistency", "consistency loss"), ("autoregressive", "next-token loss"))


def plot_metrics(lines: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draw both losses over samples; returns whether it could."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, label) in enumerate(_PANELS, start=1):
        axes = figure.add_subplot(1, 2, place)
        points = [(line["samples"], line[name]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True) if points else ([], []))
        axes.set_xlabel("samples")
        axes.set_title(label, fontsize=10)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    return True
