"""What the simulator says of the real link's cells, and one answer of every scheme to look at."""

from dataclasses import replace

from headstart.benchmarks.link_simulator import Lane, simulate
from headstart.benchmarks.report import Table
from headstart.benchmarks.socket_cells import TOKENS_PER_S, SocketSample, settings
from headstart.benchmarks.transport_cells import (
    Cell,
    Scheme,
    duplication,
    ours,
    published,
    retransmission,
    steady,
)
from headstart.benchmarks.transport_grid import Sample
from headstart.benchmarks.transport_scores import Result, measure

__all__ = ["SHOWN", "real_cells", "timeline"]

SHOWN = "random 20 %, RTT 300 ms"
"""The cell of the real link whose answer is shown."""
_PATIENCE_S = 60.0


def real_cells(sample: Sample) -> list[Result]:
    """Run the cells of the real link in virtual time, at its pace."""
    sockets = SocketSample.full() if sample.is_whole_grid else SocketSample.quick()
    return [
        measure(replace(setting, cell=_spoken(setting.cell, sample)))
        for setting in settings(sockets)
    ]


def timeline(sample: Sample) -> Table:
    """One answer, token by token: the first seed's."""
    (setting,) = (each for each in settings(SocketSample.full()) if each.name == SHOWN)
    cell = _spoken(setting.cell, sample)
    schemes: dict[str, Scheme] = {
        "retransmission": retransmission,
        "duplication x2": duplication(2),
        "Eloquent as published": published,
        "ours": ours,
    }
    rows: list[tuple[str | float | int | None, ...]] = []
    for name, scheme in schemes.items():
        parties = scheme(cell.rtt_s, cell.sizes)
        run = simulate(Lane(*parties, *cell.links(cell.seeds[0]), cell.tokens, _PATIENCE_S))
        # A scheme that was given up has shown fewer.
        pairs = zip(run.generated, run.rendered, strict=False)
        rows += [(name, round(made, 4), round(shown, 4)) for made, shown in pairs]
    title = f"One answer in the simulator: {SHOWN}"
    return Table(title, ("scheme", "made s", "shown s"), tuple(rows))


def _spoken(cell: Cell, sample: Sample) -> Cell:
    tokens = steady(TOKENS_PER_S, SocketSample.full().answer_s)
    # Whoever shares a link does so with as many as on the real one.
    num_answers = cell.sharing * max(1, sample.num_answers // cell.sharing)
    return replace(cell, tokens=tokens, seeds=sample.seeds(num_answers))
