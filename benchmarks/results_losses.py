"""Every comparison of the results that ours loses."""

from collections.abc import Iterator, Sequence

from headstart.benchmarks.results_data import SOCKETS, Results, Row, rows_of
from headstart.benchmarks.results_text import number, percent, plain
from headstart.benchmarks.transport_scores import NEGLIGIBLE

__all__ = ["WORSE", "costs", "losses"]

GROUPS = ("paper", "lossy", "light", "clean", "overflow", "blackout", "thin uplink", "reordering")
WORSE = 1.03
_SEEN = ("first text ms", "gap p99 ms", "longest gap ms", "stall", "complete after s")
_PAID = ("bytes/token", "up bytes/token")
_PAID_ON_SOCKETS = ("p95 delay ms", *_PAID)


def losses(found: Results) -> Iterator[tuple[str, ...]]:
    """Yield where, path, rival, its figure and ours: what a reader sees."""
    for group in (*GROUPS, "as on the real link"):
        yield from _simulated(rows_of(found, "transport", f"Cells: {group}"))
    for name in SOCKETS:
        yield from _on_sockets(rows_of(found, name, "Real sockets"))
    yield from _worse(rows_of(found, "browser", "In a browser"), "Chromium", _SEEN)


def costs(found: Results) -> Iterator[tuple[str, ...]]:
    """Yield the same of what is paid for it: bytes, and milliseconds by which text is paced."""
    for row in (
        each for group in GROUPS for each in rows_of(found, "transport", f"Cells: {group}")
    ):
        if (ours := number(row["of SSE's"])) > WORSE:
            cost = plain(number(row["our bytes/token"]) / ours)
            what = ("simulator", str(row["cell"]), "SSE, bytes/token")
            yield (*what, cost, plain(row["our bytes/token"]))
    for name in SOCKETS:
        yield from _worse(rows_of(found, name, "Real sockets"), "sockets", _PAID_ON_SOCKETS)
    yield from _worse(rows_of(found, "browser", "In a browser"), "Chromium", _PAID)


def _simulated(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        ours = number(row["our excess"])
        for rival in ("TCP", "duplication", "Eloquent"):
            theirs = number(row[f"{rival}'s excess"])
            if ours > theirs + NEGLIGIBLE:
                yield ("simulator", str(row["cell"]), rival, percent(theirs), percent(ours))


def _on_sockets(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    own = {row["cell"]: number(row["excess stall"]) for row in rows if _is_ours(row)}
    for row in rows:
        ours, theirs = own[row["cell"]], number(row["excess stall"])
        if ours > theirs + NEGLIGIBLE:
            where = ("sockets", str(row["cell"]), str(row["arm"]))
            yield (*where, percent(theirs), percent(ours))


def _worse(rows: Sequence[Row], where: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    own = {row["cell"]: row for row in rows if _is_ours(row)}
    for row in rows:
        ours = own[row["cell"]]
        for column in columns:
            if number(ours[column]) > WORSE * number(row[column]) + 1e-3:
                what = (where, str(row["cell"]), f"{row['arm']}, {column}")
                yield (*what, plain(row[column]), plain(ours[column]))


def _is_ours(row: Row) -> bool:
    return row["arm"] in ("our datagrams", "datagrams")
