"""What a datagram costs the gateway, beside a bare aioquic server that sends as many.

One connection a stream, on loopback. The clients are this process; only the servers' CPU time
counts, in blocks that alternate between the two.
"""

import asyncio
import ssl
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop
from aioquic.asyncio.client import connect as connect_bare
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import DatagramFrameReceived, QuicEvent

from headstart.benchmarks.checks import Bar, judge
from headstart.benchmarks.child import Child, command
from headstart.benchmarks.estimates import paired_ratio
from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.quic_cost_child import (
    DATAGRAM_BYTES,
    TICK_S,
    Cost,
    Go,
    Listening,
)
from headstart.benchmarks.report import Report, Table, write
from headstart.client.quic_connect import Trust
from headstart.client.quic_framing import ALPN
from headstart.client.quic_session import connect
from headstart.configs.settings import Settings

__all__ = ["run"]

OURS, BARE = "headstart", "aioquic"
ARMS = (OURS, BARE)
NUM_STREAMS = 16
NUM_TICKS = 150
WARM_UP_TICKS = 50
NUM_ROUNDS, NUM_QUICK_ROUNDS = 24, 8
GOAL_DATAGRAMS_PER_S = 20
BAR = Bar("server_cpu_per_datagram / aioquic", 1.25, "lower", "ratio")

ACK_BYTES = 22


@dataclass(frozen=True, slots=True)
class Round:
    """Both servers' turns, one after the other."""

    costs: dict[str, Cost]


def run(_settings: Settings, options: BenchOptions) -> int:
    """Measure, report, and return the exit status."""
    origin, began = here(), time.monotonic()
    num_rounds = NUM_QUICK_ROUNDS if options.is_quick else NUM_ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        rounds = uvloop.run(_measure(num_rounds, Path(folder)))
    ratio = paired_ratio([(each.costs[OURS], each.costs[BARE]) for each in rounds], _cpu_s)
    report = Report(
        name="quic-cost",
        origin=origin,
        is_quick=options.is_quick,
        config={
            "streams": NUM_STREAMS,
            "connections": NUM_STREAMS,
            "datagrams_per_s_and_stream": 1 / TICK_S,
            "bare_datagram_bytes": DATAGRAM_BYTES,
            "bare_answer_bytes": ACK_BYTES,
            "ticks_per_block": NUM_TICKS,
            "rounds": num_rounds,
            "event_loop": "uvloop",
            "core_binding": None,
        },
        tables=[_table(rounds)],
        checks=[judge(BAR, ratio, is_quick=options.is_quick)],
        duration_s=time.monotonic() - began,
    )
    write(report, options.json_path)
    return report.exit_status


async def _measure(num_rounds: int, folder: Path) -> list[Round]:
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        async with AsyncExitStack() as clients:
            for arm, entry in zip(ARMS, ("serve_ours", "serve_bare"), strict=True):
                argv = command("headstart.benchmarks.quic_cost_child", entry)
                child = children[arm] = Child(arm, argv, folder / arm)
                stack.callback(child.arm.stop)
                listening = await asyncio.to_thread(child.hear, Listening)
                for _ in range(NUM_STREAMS):
                    await _join(arm, listening, clients)
                await _turn(child, WARM_UP_TICKS)
            rounds: list[Round] = []
            for number in range(num_rounds):
                order = ARMS if number % 2 == 0 else ARMS[::-1]
                rounds.append(Round({arm: await _turn(children[arm], NUM_TICKS) for arm in order}))
            return rounds


async def _turn(child: Child, num_ticks: int) -> Cost:
    child.tell(msgspec.json.encode(Go(num_ticks)))
    return await asyncio.to_thread(child.hear, Cost)


async def _join(arm: str, listening: Listening, clients: AsyncExitStack) -> None:
    """Connect one reader."""
    if arm == OURS:
        trust = Trust(frozenset({bytes.fromhex(listening.sha256)}))
        session = await connect("127.0.0.1", listening.port, trust)
        clients.callback(session.close)
        await session.ask("GET", "/")
        return
    configuration = QuicConfiguration(
        alpn_protocols=[ALPN], max_datagram_frame_size=65_536, verify_mode=ssl.CERT_NONE
    )
    await clients.enter_async_context(
        connect_bare(
            "127.0.0.1", listening.port, configuration=configuration, create_protocol=_Answering
        )
    )


class _Answering(QuicConnectionProtocol):
    """Answers each datagram with one as long as an acknowledgement of ours."""

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, DatagramFrameReceived):
            self._quic.send_datagram_frame(bytes(ACK_BYTES))


def _cpu_s(costs: Sequence[Cost]) -> float:
    """For each datagram."""
    return sum(cost.cpu_s for cost in costs) / sum(cost.num_sent for cost in costs)


def _table(rounds: Sequence[Round]) -> Table:
    rows = []
    for arm in ARMS:
        costs = [each.costs[arm] for each in rounds]
        sent, received = sum(one.num_sent for one in costs), sum(one.num_received for one in costs)
        cpu_s = _cpu_s(costs)
        rows.append((arm, 1e6 * cpu_s, 1 / (GOAL_DATAGRAMS_PER_S * cpu_s), sent, received))
    # Reckoned from the cost of a datagram; the goal is 180.
    streams = f"streams a core at {GOAL_DATAGRAMS_PER_S} datagrams/s"
    columns = ("arm", "us per datagram", streams, "datagrams sent", "answers received")
    return Table("CPU time of the server", columns, tuple(rows))
