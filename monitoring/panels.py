"""What the dashboards show. The rows stand in the `panels_*` files beside this one, by area."""

from headstart.monitoring.catalogue_gateway import BUILD_INFO
from headstart.monitoring.panels_decoding import DECODE, SPECULATION
from headstart.monitoring.panels_gateway import MACHINERY
from headstart.monitoring.panels_live import LIVE
from headstart.monitoring.panels_requests import FIRST_TOKEN, NOW, REQUESTS, STAGES
from headstart.monitoring.panels_transport import TRANSPORT

__all__ = ["OVERVIEW", "UNSHOWN"]

OVERVIEW = (
    NOW,
    STAGES,
    FIRST_TOKEN,
    DECODE,
    SPECULATION,
    REQUESTS,
    LIVE,
    TRANSPORT,
    MACHINERY,
)

UNSHOWN = {BUILD_INFO: "names a version, to join with or to count; it has no course to plot"}
"""Metrics that no panel shows, and why."""
