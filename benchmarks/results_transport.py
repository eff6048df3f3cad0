"""docs/results/transport.md: what the datagrams buy and what they cost, from the benchmarks' JSON.

Every figure on the page is put there by this code. What is missing is said to be missing.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from headstart.benchmarks.results_data import COMMON, TRANSPORT, Results, rows_of
from headstart.benchmarks.results_losses import WORSE, costs, losses
from headstart.benchmarks.results_minute import in_a_minute
from headstart.benchmarks.results_page import Section, bars, missing, sources, write
from headstart.benchmarks.results_plots import bytes_against_stalls, stalls_by_loss, timelines
from headstart.benchmarks.results_text import folded, grid, percent, plain, table
from headstart.benchmarks.transport_paper import PAPER_DUPLICATION_GAINS, PAPER_GAINS
from headstart.benchmarks.transport_scores import NEGLIGIBLE

__all__ = ["run"]

LTE_GAINS = (("retransmission", -0.274), ("duplication", -0.18))
"""What the paper also says, of a trace that nobody else has."""
BESIDE = """\
The same paths three ways, 50 tokens a second. Stall is a share of the answer's time: of simulator
and sockets the excess, of the browser all of it. Sockets and browser: the kernel's TCP and our QUIC
through one link of two TUN devices that loses packets, each way. The simulator has the product's
sender and receiver, and not QUIC's own pacing, turns and delayed acknowledgements around them: its
delays without loss are shorter, and its bytes fewer.
"""
BY_LOSS = """\
Simulator, virtual time, the same losses for every scheme. Duplication sends each packet so often
that it costs at least our bytes. The scale is linear below 1 %.
"""
COSTS = """\
The paper's default cell: a token each 100 ms, 15 % of packets lost, in bursts. Bytes downwards,
with all headers. x2 to x5: every packet sent so often; hollow where a timer of 200 ms repeats what
is lost all the same, and not TCP's rule.
"""
PAPER = """\
Change of the paper's stall ratio (time in gaps above 200 ms) by its scheme: as it says, and as this
simulator finds.
"""


def run(source: Path, target: Path) -> int:
    """Write the page, its plots and what they are made of.

    Args:
        source: Folder with results.
        target: Folder of the page.

    Raises:
        SetupError: There is no result in `source`.
    """
    return write(TRANSPORT, PARTS, source, target)


def _beside(found: Results, _target: Path) -> Iterator[str]:
    yield from ("## Simulator, real sockets and browser", "", BESIDE)
    rows = [(cell, *row) for cell in COMMON for row in _beside_in(found, cell)]
    if not rows:
        yield from missing("transport", "browser")
        return
    columns = ("path", "where", "scheme", "answers", "stall", "gap p99 ms", "p95 delay ms")
    yield from grid((*columns, "bytes/token"), rows)
    yield ""
    for name, title in (
        ("browser", "In a browser"),
        ("browser", "The main thread's time"),
        ("browser", "A page that stays open"),
        ("transport", "Real sockets"),
        ("transport-sockets", "Real sockets"),
        ("transport", "Clients as shipped"),
        ("transport-sockets", "Clients as shipped"),
        ("transport", "Mechanisms, one off at a time"),
    ):
        if some := rows_of(found, name, title):
            yield from folded(f"{title}: all of it", table(some))


def _beside_in(found: Results, cell: str) -> Iterator[tuple[str, ...]]:
    for row in rows_of(found, "transport", "Cells: as on the real link"):
        if row["cell"] != cell:
            continue
        for scheme, stall, delay, cost in (
            ("TCP", "TCP's excess", "TCP's p95 ms", None),
            (f"duplication x{row['copies']}", "duplication's excess", None, None),
            ("Eloquent as published", "Eloquent's excess", None, None),
            ("ours", "our excess", "our p95 ms", "our bytes/token"),
        ):
            answers, stalled = plain(row["answers"]), percent(row[stall])
            rest = (plain(row[each]) if each else "-" for each in (delay, cost))
            yield ("simulator", scheme, answers, stalled, "-", *rest)
    places = (
        ("sockets", "transport", "Real sockets", "excess stall", "p95 delay ms"),
        ("sockets", "transport-sockets", "Real sockets", "excess stall", "p95 delay ms"),
        ("Chromium", "browser", "In a browser", "stall", None),
    )
    for where, name, title, stall, delay in places:
        for row in rows_of(found, name, title):
            if row["cell"] == cell:
                seen = (str(row["arm"]), plain(row["answers"]), percent(row[stall]))
                late = plain(row[delay]) if delay else "-"
                yield (where, *seen, plain(row["gap p99 ms"]), late, plain(row["bytes/token"]))


def _by_loss(found: Results, target: Path) -> Iterator[str]:
    yield from ("## Stalls by loss and round trip", "")
    result = found.get("transport")
    if result is None or not stalls_by_loss(result, target / "transport-stalls.svg"):
        yield from missing("transport")
        return
    yield from ("![Excess stall over loss, by round trip and pace](transport-stalls.svg)", "")
    yield BY_LOSS
    columns = ("cell", "TCP's excess", "duplication's excess", "Eloquent's excess", "our excess")
    rows = [
        (str(row["cell"]), *(percent(row[column]) for column in columns[1:]))
        for group in ("light", "lossy")
        for row in result.rows(f"Cells: {group}")
        if re.search(r"RTT (50|100|300) ms, (20|100) tok/s", str(row["cell"]))
    ]
    yield from folded("The same as a table, with bursts of losses", grid(columns, rows))


def _timeline(found: Results, target: Path) -> Iterator[str]:
    yield from ("## One answer under each scheme", "")
    titles = {"transport": "One answer in the simulator", "browser": "One answer in a browser"}
    rows = {name: rows_of(found, name, title) for name, title in titles.items()}
    path = target / "transport-timeline.svg"
    if not timelines(rows["transport"], rows["browser"], path):
        yield from missing(*titles)
        return
    yield from ("![Tokens on the screen over time](transport-timeline.svg)", "")
    for name, title in titles.items():
        if rows[name]:
            (whole,) = (each for each in found[name].titles if each.startswith(title))
            yield f"- {whole}."
    yield from ("- In the browser, the answer of each arm whose stall is the median one.", "")


def _costs(found: Results, target: Path) -> Iterator[str]:
    yield from ("## Bytes against stalls", "")
    result = found.get("transport")
    if result is None or not bytes_against_stalls(result, target / "transport-bytes.svg"):
        yield from missing("transport")
        return
    yield from ("![Stalls over wire bytes a token](transport-bytes.svg)", "", COSTS)


def _paper(found: Results, _target: Path) -> Iterator[str]:
    yield from ("## The Eloquent paper's figures", "", PAPER)
    checks = {check["name"]: check for result in found.values() for check in result.checks}
    gains = [(rtt_s, "retransmission", gain) for rtt_s, _, gain in PAPER_GAINS]
    gains += [(rtt_s, "duplication", gain) for rtt_s, gain in PAPER_DUPLICATION_GAINS]
    rows: list[tuple[str, ...]] = []
    for rtt_s, rival, gain in gains:
        check = checks.get(f"paper_vs_{rival}_rtt_{1e3 * rtt_s:.0f}")
        note, verdict = (check["note"], check["verdict"]) if check else ("not measured", "-")
        cell = f"default channel, RTT {1e3 * rtt_s:.0f} ms"
        rows.append((cell, rival, f"{gain:.1%}", note, verdict))
    for rival, gain in LTE_GAINS:
        rows.append(("LTE trace, RTT 400 ms", rival, f"{gain:.1%}", "not public", "-"))
    yield from grid(("cell", "against", "paper", "here", "within 3 points"), rows)
    yield ""
    if schemes := rows_of(found, "transport", "The paper's grid"):
        yield from folded("Every scheme in the paper's cells", table(schemes))


def _losing(found: Results, _target: Path) -> Iterator[str]:
    yield from ("## Where ours loses", "")
    yield (
        "Simulator and sockets: cells in which a rival's excess stall is smaller by more than "
        f"{NEGLIGIBLE:.1%} of the time. Browser: figures that are worse than SSE's by more than "
        f"{WORSE - 1:.0%}. Of few answers, some of these are chance."
    )
    columns = ("where", "path", "rival", "its figure", "ours")
    yield from ("", *grid(columns, list(losses(found))), "")
    yield from folded("What it costs: bytes and pacing", grid(columns, list(costs(found))))


PARTS: tuple[Section, ...] = (
    in_a_minute,
    _beside,
    _by_loss,
    _timeline,
    _costs,
    _paper,
    _losing,
    bars,
    sources,
)
