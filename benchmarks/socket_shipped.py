"""The Python client as shipped beside `openai`'s, on a link that loses packets of both alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np

from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.estimates import exactly
from headstart.benchmarks.link_flows import TCP, Passed
from headstart.benchmarks.report import Table
from headstart.benchmarks.shipped_clients import Client, Turn
from headstart.benchmarks.socket_cells import SocketSample, shipped_settings
from headstart.benchmarks.socket_orders import Made
from headstart.benchmarks.socket_report import LATE_S, NO_WORSE, undisturbed
from headstart.benchmarks.socket_rig import Rig
from headstart.benchmarks.socket_scores import times
from headstart.benchmarks.stall_metrics import stall_s, waiting_share
from headstart.benchmarks.transport_cells import Outcome
from headstart.benchmarks.transport_grid import Group, Setting
from headstart.benchmarks.transport_scores import Result, ratio_check, worst
from headstart.benchmarks.transport_wide import TCP_BAR

__all__ = ["TURNS", "Asked", "Shipped", "checks", "run", "table"]

MOST_TRIES = 3
NUM_LANES, NUM_BLOCKS = 4, 4
"""Fewer at once than of the bare readers: sixteen whole clients are more than two cores do, and
what is measured then is the machine."""
TURNS = ("first question", "second question")
"""Of a client that has nothing open yet, and of the same a second after the answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of one client."""

    outcome: Outcome
    """Its stall is all of it: which packets of several connections get lost nobody knew."""
    first_text_s: float
    """Since it was asked; of an answer without text, when the client gave up."""
    by_datagrams: float
    """Share of its text that came while datagrams alone carried the answer."""
    is_exact: bool
    """Whether what came is what was made, and all of it."""
    num_tokens: int


@dataclass(slots=True)
class Shipped:
    """A cell's questions, by turn and client."""

    setting: Setting
    asked: dict[str, dict[Client, list[Asked]]] = field(
        default_factory=lambda: {turn: {client: [] for client in Client} for turn in TURNS}
    )
    passed: dict[Client, list[Passed]] = field(
        default_factory=lambda: {client: [] for client in Client}
    )
    late_s: dict[Client, list[float]] = field(
        default_factory=lambda: {client: [] for client in Client}
    )
    others_cores: float = 0.0

    @property
    def is_disturbed(self) -> bool:
        """Whether the machine stalled in each of a block's tries."""
        return any(late_s > LATE_S for some in self.late_s.values() for late_s in some)


def run(rig: Rig, sample: SocketSample) -> list[Shipped]:
    """Measure; nothing where only UDP loses packets: no client that may choose can be compared."""
    if rig.standing.kind != "tun":
        return []
    found = [Shipped(setting) for setting in shipped_settings(sample)]
    num_blocks = NUM_BLOCKS if sample.is_whole_grid else 1
    sample = replace(sample, num_lanes=NUM_LANES, num_blocks=num_blocks)
    for client in Client:  # loads what the first loads
        alone = replace(sample, num_lanes=1, answer_s=0.2)
        rig.ask_again(found[0].setting, client, alone, 0)
    for number in range(sample.num_blocks):
        for index, cell in enumerate(found):
            clients = list(Client)
            for client in clients if (index + number) % 2 else reversed(clients):
                _block(rig, cell, client, sample, number)
    return found


def _block(rig: Rig, cell: Shipped, client: Client, sample: SocketSample, number: int) -> None:
    found = rig.ask_again(cell.setting, client, sample, number)
    for _ in range(MOST_TRIES - 1):
        if found[2].late_p99_s <= LATE_S:
            break
        found = rig.ask_again(cell.setting, client, sample, number)
    turns, made, crossed, others = found
    cell.late_s[client].append(crossed.late_p99_s)
    cell.passed[client] += crossed.flows
    cell.others_cores = max(cell.others_cores, others)
    tokens = iter(made)
    for both in turns:
        for name, turn in zip(TURNS, both, strict=True):
            cell.asked[name][client].append(scored(cell.setting, turn, next(tokens), sample))


def scored(setting: Setting, turn: Turn, made: Made, sample: SocketSample) -> Asked:
    """Score one answer."""
    generated, rendered = times(turn.shown, made, turn.asked_at, sample)
    one_way_s, span_s = setting.cell.rtt_s / 2, rendered[-1] - generated[0]
    stall = stall_s(generated, rendered, one_way_s) / span_s
    delays_s = sorted(late - at - one_way_s for at, late in zip(generated, rendered, strict=True))
    num_tokens = len(generated)
    return Asked(
        Outcome(
            stall,
            stall,
            waiting_share(rendered),
            0.0,
            0,
            0,
            span_s,
            delays_s,
            turn.shown.is_whole,
        ),
        rendered[0],
        turn.by_datagrams / num_tokens,
        turn.shown.is_whole and turn.text == "".join(made.texts),
        num_tokens,
    )


def table(found: Sequence[Shipped]) -> Table:
    """What came of it; bytes are of both turns, all connections and both ways."""
    rows: list[tuple[str | float | int | None, ...]] = []
    for cell in found:
        for client in Client:
            down_bytes, up_bytes, tcp_share = _bytes(cell, client)
            for turn, asked in cell.asked.items():
                some = asked[client]
                delays_s = np.concatenate([each.outcome.delays_s for each in some])
                firsts_s = [each.first_text_s for each in some]
                rows.append(
                    (
                        cell.setting.name,
                        turn,
                        client.value,
                        len(some),
                        fmean(each.outcome.stall for each in some),
                        1e3 * float(np.quantile(firsts_s, 0.5)),
                        1e3 * float(np.quantile(firsts_s, 0.95)),
                        1e3 * float(np.quantile(delays_s, 0.95)),
                        fmean(each.by_datagrams for each in some),
                        down_bytes,
                        up_bytes,
                        tcp_share,
                        sum(not each.is_exact for each in some),
                        1e3 * max(cell.late_s[client]),
                        cell.others_cores,
                    )
                )
    columns = (
        *("cell", "turn", "client", "answers", "stall", "first text p50 ms", "first text p95 ms"),
        *("p95 delay ms", "text by datagrams", "bytes/token", "up bytes/token", "of them by TCP"),
        *("not exact", "link late p99 ms", "others' cores"),
    )
    return Table("Clients as shipped", columns, tuple(rows))


def _bytes(cell: Shipped, client: Client) -> tuple[float, float, float]:
    passed = cell.passed[client]
    num_tokens = sum(each.num_tokens for asked in cell.asked.values() for each in asked[client])
    down_bytes = sum(each.down_bytes for each in passed)
    by_tcp = sum(each.down_bytes for each in passed if each.protocol == TCP)
    up_bytes = sum(each.up_bytes for each in passed)
    return down_bytes / num_tokens, up_bytes / num_tokens, by_tcp / down_bytes


def checks(found: Sequence[Shipped], *, is_quick: bool) -> list[Check]:
    """By the bars of the arms, of all stalls."""
    bars = (
        (Bar("sockets_shipped_stall_vs_openai_client", TCP_BAR, "lower", "ratio"), Group.LOSSY),
        (
            Bar("sockets_shipped_stall_without_loss_vs_openai_client", NO_WORSE, "lower", "ratio"),
            Group.CLEAN,
        ),
    )
    wrong = Bar("sockets_shipped_wrong_answers", 0, "lower", "answers")
    if not found:
        why = "no lossy path for TCP here"
        return [not_measured(bar, why) for bar in (*(bar for bar, _ in bars), wrong)]
    checks = [
        worst(
            bar.name,
            bar.limit,
            bar.unit,
            [
                check
                for cell in found
                if cell.setting.group is group
                for check in _stalls(cell, bar.limit, is_quick=is_quick)
            ],
        )
        for bar, group in bars
    ]
    mine = [each for cell in found for asked in cell.asked.values() for each in asked[Client.OURS]]
    count = sum(not each.is_exact for each in mine)
    return [*checks, judge(wrong, exactly(float(count)), note=f"of {len(mine)}")]


def _stalls(cell: Shipped, limit: float, *, is_quick: bool) -> Iterator[Check]:
    for turn, asked in cell.asked.items():
        mine, theirs = ([each.outcome for each in asked[client]] for client in _PAIR)
        named = Setting(f"{cell.setting.name}, {turn}", cell.setting.group, cell.setting.cell)
        compared = Result(named, theirs, 0, (), (), mine)
        check = ratio_check(compared, theirs, limit, is_quick)
        yield undisturbed(cell.is_disturbed, check, is_quick)


_PAIR = (Client.OURS, Client.OPENAI)
