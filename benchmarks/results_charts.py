"""Plots of decoding and of the whole journey, as SVG that is the same for the same numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from headstart.benchmarks.results_data import Row
from headstart.benchmarks.results_plots import STYLE, save
from headstart.benchmarks.results_text import number

__all__ = ["growth", "parts", "speeds", "verifying"]

_COLOURS = ("#2857c5", "#b3261e", "#9a6700", "#6a6d76", "#1a7f37", "#8250df", "#0a7ea4", "#bf3989")


def speeds(rows: Sequence[Row], path: Path) -> bool:
    """Draw every lane's speed over the plain engine's, a panel for each concurrency.

    Returns: False where there is nothing to draw.
    """
    sizes = list(dict.fromkeys(row["concurrency"] for row in rows))
    lanes = [lane for lane in dict.fromkeys(str(row["lane"]) for row in rows) if lane != "plain"]
    tasks = list(dict.fromkeys(str(row["task"]) for row in rows))
    if not lanes:
        return False
    with mpl.rc_context(STYLE):
        width = 2.5 + 0.28 * len(tasks) * (1 + len(lanes))
        figure = Figure(figsize=(width, 1.2 + 1.8 * len(sizes)))
        panels = figure.subplots(len(sizes), 1, sharey=True, squeeze=False)[:, 0]
        for axes, size in zip(panels, sizes, strict=True):
            for index, lane in enumerate(lanes):
                found = {
                    str(row["task"]): number(row["over_plain"])
                    for row in rows
                    if (row["concurrency"], row["lane"]) == (size, lane)
                }
                width = 0.8 / len(lanes)
                axes.bar(
                    [at + (index - (len(lanes) - 1) / 2) * width for at in range(len(tasks))],
                    [found.get(task, 0.0) for task in tasks],
                    width=width,
                    color=_COLOURS[index % len(_COLOURS)],
                    label=lane,
                )
            axes.axhline(1.0, color="#1c1d21", linewidth=1)
            axes.set_xticks(range(len(tasks)), tasks)
            axes.set_title(f"{size} at once", fontsize=9)
        figure.supylabel("tokens a second over plain vLLM's", fontsize=9)
        lines, names = panels[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="upper center", ncols=len(names), fontsize=8)
        figure.tight_layout(rect=(0, 0, 1, 0.93))
        save(figure, path)
    return True


def verifying(costs: Sequence[Row], replays: Sequence[Row], path: Path) -> bool:
    """Draw what a step costs by the tokens that it verifies, and what right drafts gain.

    Returns: False where there is nothing to draw.
    """
    if not costs:
        return False
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 3.0))
        left, right = figure.subplots(1, 2)
        tokens = [number(row["tokens"]) for row in costs]
        left.plot(tokens, [number(row["over_one"]) for row in costs], "o-", color=_COLOURS[0])
        left.set_xscale("log", base=2)
        left.set_xticks(tokens, [f"{each:.0f}" for each in tokens])
        left.set_ylim(bottom=0)
        left.set_xlabel("tokens verified in a step")
        left.set_ylabel("seconds over one token's")
        names = [f"{number(row['right']):.0f} right" for row in replays]
        possible = [number(row["tokens_per_step"]) / number(row["step_cost"]) for row in replays]
        for offset, values, label, colour in (
            (-0.2, possible, "possible", _COLOURS[3]),
            (0.2, [number(row["over_plain"]) for row in replays], "measured", _COLOURS[0]),
        ):
            places = [at + offset for at in range(len(names))]
            right.bar(places, values, width=0.4, label=label, color=colour)
        right.set_xticks(range(len(names)), names)
        right.set_ylabel("speed over plain")
        right.legend(fontsize=8)
        figure.tight_layout()
        save(figure, path)
    return True


def parts(rows: Sequence[Row], path: Path) -> bool:
    """Draw where each arm's time goes, a panel for the first token and one for the last.

    Returns: False where there is nothing to draw.
    """
    if not rows:
        return False
    spans = list(dict.fromkeys(str(row["token"]) for row in rows))
    names = [name for name in rows[0] if name not in ("arm", "token", "all s")]
    with mpl.rc_context(STYLE):
        arms = list(dict.fromkeys(str(row["arm"]) for row in rows))
        figure = Figure(figsize=(8.6, 0.3 * len(arms) + 1.3))
        panels = figure.subplots(1, len(spans), sharey=True, squeeze=False)[0]
        for axes, span in zip(panels, spans, strict=True):
            own = {str(row["arm"]): row for row in rows if row["token"] == span}
            reached = [0.0] * len(arms)
            for index, name in enumerate(names):
                lengths = [number(own[arm][name]) for arm in arms]
                label, colour = name.removesuffix(" s"), _COLOURS[index % len(_COLOURS)]
                axes.barh(arms, lengths, left=reached, color=colour, label=label, height=0.7)
                reached = [start + length for start, length in zip(reached, lengths, strict=True)]
            axes.set_title(f"to the {span} token", fontsize=9)
            axes.set_xlabel("seconds, mean")
        panels[0].invert_yaxis()
        lines, labels = panels[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="upper center", ncols=len(labels), fontsize=7)
        figure.tight_layout(rect=(0, 0, 1, 0.93))
        save(figure, path)
    return True


def growth(rows: Sequence[Row], shown: Mapping[str, str], path: Path) -> bool:
    """Draw how answers grow.

    Args:
        shown: Names for the legend by arm; others are left out.

    Returns: False where there is nothing to draw.
    """
    own = [row for row in rows if row["arm"] in shown]
    if not own:
        return False
    columns = [name for name in own[0] if name != "arm"]
    shares = [float(name.partition("%")[0]) for name in columns]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 3.4))
        axes = figure.subplots()
        for index, row in enumerate(own):
            axes.plot(
                [number(row[name]) for name in columns],
                shares,
                "o-",
                color=_COLOURS[index % len(_COLOURS)],
                label=shown[str(row["arm"])],
                markersize=3,
            )
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds after the last key, median")
        axes.set_ylabel("% of the answer on the screen")
        axes.legend(fontsize=8)
        figure.tight_layout()
        save(figure, path)
    return True
