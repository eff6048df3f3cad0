"""Grafana dashboards as code: draws `headstart.monitoring.panels` into JSON files.

Needs `grafana-foundation-sdk` (the dev extra); nothing that serves imports this module. The
files in `dashboards/` are generated and committed: change the panels, then write them again.
"""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_options
from grafana_foundation_sdk.models import prometheus as formats

from headstart.monitoring.catalogue_requests import STAGE_DURATION
from headstart.monitoring.panels import OVERVIEW
from headstart.monitoring.promql import metrics_in
from headstart.monitoring.views import Kind, Row, View

__all__ = ["build", "stale", "write"]

_Panel = stat.Panel | timeseries.Panel | heatmap.Panel

_DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


def build() -> dict[str, str]:
    """Return the JSON text of every dashboard by its name."""
    return {"overview": _json("Headstart overview", "headstart-overview", OVERVIEW)}


def write(folder: Path) -> None:
    """Write every dashboard into `folder`, which exists, as `<name>.json`."""
    for name, text in build().items():
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def stale(folder: Path) -> list[str]:
    """Name the files in `folder` that `write` would change, add, or that nothing makes."""
    wanted = {f"{name}.json": text for name, text in build().items()}
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(
        name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)
    )


def _json(title: str, uid: str, rows: tuple[Row, ...]) -> str:
    board = (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["headstart"])
        .timezone("browser")
        .time("now-30m", "now")
        .refresh("10s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(_datasource_variable())
        .with_variable(_model_variable())
    )
    ids = count(1)
    for row in rows:
        board.with_row(dashboard.Row(row.title).id(next(ids)))
        for view in row.views:
            board.with_panel(_panel(view).id(next(ids)))
    return json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _datasource_variable() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _model_variable() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("model")
        .label("Model")
        .datasource(_DATASOURCE)
        .query(f"label_values({STAGE_DURATION.name}_count, model)")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        # Also matches the empty name of requests that asked for no configured model.
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _panel(view: View) -> _Panel:
    panel: _Panel
    match view.kind:
        case Kind.STAT:
            panel = _stat()
        case Kind.HEATMAP:
            panel = _heatmap(view.unit)
        case Kind.LINES | Kind.LOG_LINES | Kind.STACK:
            panel = _lines(view.kind)
    panel.title(view.title).description("\n\n".join(_description(view)))
    panel.datasource(_DATASOURCE).unit(view.unit).no_value("No traffic")
    if view.kind is not Kind.LOG_LINES:
        panel.min(0)
    for position, query in enumerate(view.queries):
        panel.with_target(
            prometheus.Dataquery()
            .ref_id(chr(ord("A") + position))
            .datasource(_DATASOURCE)
            .expr(query.expr)
            .legend_format(query.legend)
            .format(_format(view.kind))
            .range()
        )
    return panel


def _description(view: View) -> Iterator[str]:
    yield view.note
    for metric in metrics_in(" ".join(query.expr for query in view.queries)):
        yield f"`{metric.name}`: {metric.help}"


def _format(kind: Kind) -> formats.PromQueryFormat:
    is_heatmap = kind is Kind.HEATMAP
    return formats.PromQueryFormat.HEATMAP if is_heatmap else formats.PromQueryFormat.TIME_SERIES


def _stat() -> stat.Panel:
    return (
        stat.Panel()
        .span(4)
        .height(4)
        .graph_mode(options.BigValueGraphMode.AREA)
        .color_mode(options.BigValueColorMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def _lines(kind: Kind) -> timeseries.Panel:
    # The builder's own defaults (no legend, no colour steps) are zero values, not Grafana's.
    legend = common.VizLegendOptions().show_legend(True).calcs(["lastNotNull", "max"])
    tooltip = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI)
    panel = (
        timeseries.Panel()
        .span(12)
        .height(8)
        .legend(
            legend.display_mode(options.LegendDisplayMode.TABLE).placement(
                options.LegendPlacement.RIGHT
            )
        )
        .tooltip(tooltip.sort(options.SortOrder.DESCENDING))
        .show_points(options.VisibilityMode.NEVER)
    )
    if kind is Kind.STACK:
        panel.fill_opacity(40).stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if kind is Kind.LOG_LINES:
        scale = common.ScaleDistributionConfig().type(options.ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale)
    return panel


def _heatmap(unit: str) -> heatmap.Panel:
    color = heatmap.HeatmapColorOptions().mode(heatmap_options.HeatmapColorMode.SCHEME)
    color.scheme("Oranges").fill("dark-orange").steps(64)
    color.scale(heatmap_options.HeatmapColorScale.EXPONENTIAL).exponent(0.5)
    return (
        heatmap.Panel()
        .span(12)
        .height(8)
        .color(color)
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .show_legend()
        .show_tooltip()
    )
