"""Every comparison of the results that ours loses."""

from collections.abc import Iterator, Sequence

from headstart.benchmarks.results_data import Results, Row
from headstart.benchmarks.results_text import number, percent, plain
from headstart.benchmarks.transport_scores import NEGLIGIBLE

__all__ = ["GROUPS", "WORSE", "losses"]

GROUPS = ("lossy", "light", "clean", "overflow", "blackout", "thin uplink", "reordering")
WORSE = 1.03
_OF_A_PAGE = (
    *("first text ms", "gap p99 ms", "longest gap ms", "stall", "complete after s"),
    *("bytes/token", "up bytes/token"),
)


def losses(found: Results) -> Iterator[tuple[str, ...]]:
    """Yield where, path, rival, its figure and ours."""
    if "transport" in found:
        for group in (*GROUPS, "as on the real link"):
            yield from _simulated(found["transport"].rows(f"Cells: {group}"))
    for name in ("transport", "transport-sockets"):
        if name in found:
            yield from _on_sockets(found[name].rows("Real sockets"))
    if "browser" in found:
        yield from _in_browser(found["browser"].rows("In a browser"))


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


def _in_browser(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    own = {row["cell"]: row for row in rows if _is_ours(row)}
    for row in rows:
        ours = own[row["cell"]]
        for column in _OF_A_PAGE:
            if number(ours[column]) > WORSE * number(row[column]) + 1e-3:
                where = ("Chromium", str(row["cell"]), f"SSE, {column}")
                yield (*where, plain(row[column]), plain(ours[column]))


def _is_ours(row: Row) -> bool:
    return row["arm"] in ("our datagrams", "datagrams")
