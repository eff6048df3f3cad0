"""The dashboards' rules, after grafana/dashboard-linter, on the JSON that is committed."""

import json
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest

from headstart.monitoring import dashboards
from headstart.monitoring.catalogue import METRICS
from headstart.monitoring.metrics import Metrics
from headstart.monitoring.panels import UNSHOWN
from headstart.monitoring.promql import metrics_in
from tests.monitoring.exposition import Exposition
from tests.monitoring.panel_queries import PanelQuery, panel_queries

HOME = Path(dashboards.__file__).resolve().parent
OVERVIEW = (HOME / "dashboards" / "overview.json").read_text(encoding="utf-8")
BOARD = json.loads(OVERVIEW)
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = panel_queries(OVERVIEW)
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

every_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
every_query = pytest.mark.parametrize("query", QUERIES, ids=str)


@pytest.fixture(scope="module")
def exported() -> Exposition:
    return Exposition.parse(Metrics(["small"], "1").expose())


def test_committed_files_are_what_the_code_makes() -> None:
    assert dashboards.stale(HOME / "dashboards") == []


def test_stale_names_changed_missing_and_foreign_files(tmp_path: Path) -> None:
    assert dashboards.stale(tmp_path) == ["overview.json"]
    dashboards.write(tmp_path)
    assert dashboards.stale(tmp_path) == []
    (tmp_path / "overview.json").write_text("{}")
    (tmp_path / "old.json").write_text("{}")
    assert dashboards.stale(tmp_path) == ["old.json", "overview.json"]


def test_ids_are_unique() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert 8 <= len(BOARD["uid"]) <= 40


def test_titles_are_unique() -> None:
    titles = [panel["title"] for panel in BOARD["panels"]]
    assert len(set(titles)) == len(titles)


def test_panels_do_not_overlap() -> None:
    boxes = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    for one, other in combinations(boxes, 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )


def test_variables_choose_data_source_and_model() -> None:
    source, model = BOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert (model["name"], model["datasource"], model["allValue"]) == ("model", DATASOURCE, ".*")
    assert model["query"] == "label_values(headstart_stage_duration_seconds_count, model)"
    assert model["multi"]
    assert model["includeAll"]


@every_panel
def test_panel_has_source_unit_and_what_to_show_when_idle(panel: dict[str, object]) -> None:
    field = _field_defaults(panel)
    assert panel["datasource"] == DATASOURCE
    assert field["unit"]
    assert field["noValue"] == "No traffic"


@every_panel
def test_description_names_each_metric_and_its_help(panel: dict[str, object]) -> None:
    exprs = " ".join(query.expr for query in QUERIES if query.panel == panel["title"])
    note, *helps = str(panel["description"]).split("\n\n")
    assert note.endswith(".")
    assert helps == [f"`{metric.name}`: {metric.help}" for metric in metrics_in(exprs)]


@every_query
def test_query_names_only_what_is_exported(query: PanelQuery, exported: Exposition) -> None:
    assert list(exported.problems(query.expr)) == []
    assert query.datasource == DATASOURCE


@every_query
def test_query_obeys_the_rules_of_its_board(query: PanelQuery) -> None:
    assert ("rate(" in query.expr or "increase(" in query.expr) == ("[" in query.expr)
    assert query.expr.count("[") == query.expr.count("[$__rate_interval]")
    for metric in metrics_in(query.expr):
        has_model = any(label.name == "model" for label in metric.labels)
        assert has_model == ('model=~"$model"' in query.expr)
    assert "/ " not in query.expr or "> 0)" in query.expr, "a division guards against no traffic"


@every_query
def test_quantiles_are_neither_added_up_nor_averaged(query: PanelQuery) -> None:
    outer, found, _ = query.expr.partition("histogram_quantile(")
    assert not found or outer == ""


def test_stacked_panels_show_what_may_be_added_up() -> None:
    for panel in PANELS:
        custom = _field_defaults(panel).get("custom", {})
        if isinstance(custom, dict) and "stacking" in custom:
            assert "histogram_quantile" not in json.dumps(panel["targets"])


def test_legends_are_shown() -> None:
    lines = [panel for panel in PANELS if panel["type"] == "timeseries"]
    assert all(panel["options"]["legend"]["showLegend"] for panel in lines)


def test_every_metric_is_shown_or_said_not_to_be() -> None:
    shown = {metric for query in QUERIES for metric in metrics_in(query.expr)}
    assert shown | UNSHOWN.keys() == set(METRICS)
    assert not shown & UNSHOWN.keys()
    assert all(UNSHOWN.values())


@pytest.mark.prometheus
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_scrape_configuration_is_valid() -> None:
    check = subprocess.run(
        ["promtool", "check", "config", HOME / "prometheus.yml"], capture_output=True, check=False
    )
    assert check.returncode == 0, check.stderr.decode()


def _field_defaults(panel: dict[str, object]) -> dict[str, object]:
    config = panel["fieldConfig"]
    assert isinstance(config, dict)
    defaults = config["defaults"]
    assert isinstance(defaults, dict)
    return defaults
