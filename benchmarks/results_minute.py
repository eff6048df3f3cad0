"""What a reader of the results sees in a minute."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from headstart.benchmarks.results_data import COMMON, SOCKETS, Results, Row, rows_of
from headstart.benchmarks.results_losses import costs, losses
from headstart.benchmarks.results_page import age, verdicts
from headstart.benchmarks.results_text import number, percent, plain
from headstart.benchmarks.transport_scores import NEGLIGIBLE

__all__ = ["in_a_minute"]

HEAD = """\
# What the datagrams buy, and what they cost

Made by `headstart results transport --from docs/results/data`, figures and plots alike: do not
edit. *Excess stall* is the share of an answer's time in which text was due for more than 100 ms and
not on the screen, minus that of a sender that knows which packets will be lost.
[transport.md](../transport.md) says how the transport works, and
[LOG.md](../../benchmarks/LOG.md) what each run found.
"""


def in_a_minute(found: Results, _target: Path) -> Iterator[str]:
    """Yield the page's beginning."""
    yield from (HEAD, "## In a minute", "")
    yield age(found)
    yield from _of_the_browser(found)
    yield from _of_the_sockets(found)
    yield from _of_the_simulator(found)
    count = len(list(losses(found)))
    dearer = len(list(costs(found)))
    yield (
        f"- **Ours loses** {count} comparisons of stalls and waits, and is the dearer one in "
        f"{dearer} of bytes and pacing: [all of them](#where-ours-loses)."
    )
    yield verdicts(found)
    yield ""


def _of_the_browser(found: Results) -> Iterator[str]:
    rows = {(row["cell"], row["arm"]): row for row in rows_of(found, "browser", "In a browser")}
    for cell in COMMON[1:3]:
        ours, theirs = rows.get((cell, "datagrams")), rows.get((cell, "SSE, TCP"))
        if ours is None or theirs is None:
            continue
        yield (
            f"- **In Chromium, {cell}**, {ours['answers']} answers each: over SSE "
            f"{theirs['gaps > 200 ms']} pauses above 200 ms, up to "
            f"{plain(theirs['longest gap ms'])} ms; over datagrams {ours['gaps > 200 ms']}, up to "
            f"{plain(ours['longest gap ms'])} ms. Wire bytes a token: {plain(ours['bytes/token'])} "
            f"instead of {plain(theirs['bytes/token'])}."
        )


def _of_the_sockets(found: Results) -> Iterator[str]:
    for name in SOCKETS:
        rows = {(row["cell"], row["arm"]): row for row in rows_of(found, name, "Real sockets")}
        for cell in COMMON[1:3]:
            ours = rows.get((cell, "our datagrams"))
            rivals = [rows.get((cell, f"SSE, TCP {control}")) for control in ("cubic", "bbr")]
            there = [row for row in rivals if row is not None]
            if ours is None or not there:
                continue
            stalls = " and ".join(percent(row["excess stall"]) for row in there)
            costs = " and ".join(plain(row["bytes/token"]) for row in there)
            yield (
                f"- **On real sockets, {cell}**: SSE over {_and(there)} stalls for {stalls} of an "
                f"answer beyond what nobody could avoid, our datagrams for "
                f"{percent(ours['excess stall'])}. Wire bytes a token: {costs} against "
                f"{plain(ours['bytes/token'])}."
            )


def _and(rows: Sequence[Row]) -> str:
    return " and ".join(str(row["arm"]).removeprefix("SSE, ") for row in rows)


def _of_the_simulator(found: Results) -> Iterator[str]:
    cells = rows_of(found, "transport", "Cells: lossy")
    if not cells:
        return
    stalling = [row for row in cells if number(row["TCP's excess"]) >= NEGLIGIBLE]
    ratios = sorted(number(row["ours / TCP's"]) for row in stalling)
    costs = sorted(number(row["of SSE's"]) for row in cells)
    yield (
        f"- **In the simulator**, TCP stalls on {len(stalling)} of {len(cells)} paths that lose "
        f"5 % or more. Of its excess stall ours has {percent(ratios[len(ratios) // 2])} in the "
        f"median and {percent(ratios[-1])} at worst; of SSE's wire bytes, "
        f"{percent(costs[len(costs) // 2])} in the median and {percent(costs[-1])} at most."
    )
