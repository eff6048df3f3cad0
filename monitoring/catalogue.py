"""Every metric Headstart exports, as data: name, meaning, labels, buckets and one query.

They stand in the `catalogue_*` files beside this one, by area. `headstart.monitoring.series` builds
the series from these entries and `headstart.monitoring.dashboards` the panels, so a name is spelt
once. Nothing here imports a metrics library.
"""

from headstart.monitoring import (
    catalogue_gateway,
    catalogue_live,
    catalogue_requests,
    catalogue_speculation,
    catalogue_transport,
)

__all__ = ["METRICS"]

METRICS = (
    *catalogue_requests.METRICS,
    *catalogue_gateway.METRICS,
    *catalogue_transport.METRICS,
    *catalogue_speculation.METRICS,
    *catalogue_live.METRICS,
)
