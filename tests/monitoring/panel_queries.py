"""Takes the queries out of a dashboard's JSON."""

import json
from dataclasses import dataclass, field

__all__ = ["PanelQuery", "panel_queries"]


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One query of one panel."""

    panel: str
    """Its title."""
    ref_id: str
    expr: str
    """As in the JSON, with Grafana's macros."""
    legend: str
    datasource: dict[str, str] = field(hash=False)

    def __str__(self) -> str:
        return f"{self.panel}, {self.ref_id}"


def panel_queries(dashboard: str) -> list[PanelQuery]:
    """Return every query of a dashboard, in order."""
    return [
        PanelQuery(
            panel["title"],
            target["refId"],
            target["expr"],
            target["legendFormat"],
            target["datasource"],
        )
        for panel in json.loads(dashboard)["panels"]
        for target in panel.get("targets", [])
    ]
