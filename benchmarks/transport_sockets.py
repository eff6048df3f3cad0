"""Kernel TCP and our QUIC on real sockets, over one link that loses packets.

The second part of `headstart bench transport`; by itself `headstart bench transport-sockets`.
"""

import asyncio
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import uvloop
from tqdm import tqdm  # type: ignore[import-untyped]

from headstart.benchmarks import socket_shipped, socket_soak
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Part, run_part
from headstart.benchmarks.socket_cells import TOKENS_PER_S, SocketSample, settings
from headstart.benchmarks.socket_exactness import read_through, reference
from headstart.benchmarks.socket_faults import ALONE, Case, Fault, Restart, Result
from headstart.benchmarks.socket_gateways import Gateways
from headstart.benchmarks.socket_orders import model
from headstart.benchmarks.socket_readers import Arm
from headstart.benchmarks.socket_report import (
    LATE_S,
    Found,
    cells_table,
    checks,
    exactness_check,
    faults_table,
    struck_check,
)
from headstart.benchmarks.socket_rig import MODEL, Rig
from headstart.benchmarks.socket_scores import Block
from headstart.configs.settings import Settings

__all__ = ["run", "run_sockets"]

MOST_TRIES = 3
QUICK_MODEL = model("quick", 60.0)
AT_ONCE = 16
RESTART_SHARE = 0.125
"""Of the answers through faults: each restart hits eight at once."""


def run(settings_: Settings, options: BenchOptions) -> int:
    """Measure, report, and return the exit status."""
    return run_part(
        "transport-sockets", options, lambda: run_sockets(settings_, is_quick=options.is_quick)
    )


def run_sockets(settings_: Settings, *, is_quick: bool) -> Part:
    """Run all of it.

    Raises:
        SetupError: A process does not start, or ends.
    """
    sample = SocketSample.quick() if is_quick else SocketSample.full()
    load_before = os.getloadavg()[0]
    own = settings_.model_copy(update={"models": (MODEL, socket_soak.MODEL)})
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as name:
        folder = Path(name)
        with Rig(own, own.models, folder) as rig:
            cells = _run_cells(rig, sample)
            shipped = socket_shipped.run(rig, sample)
            crowd = socket_soak.soak(rig, sample.soak_s, sample.seed_base)
            standing, arms = rig.standing, rig.arms
        results = _run_faults(settings_, sample, folder)
    config = {
        "sample": asdict(sample),
        "link": standing.kind,
        "why_no_tun": standing.why or None,
        "kernel_tcp": standing.controls,
        "arms": arms,
        "arms_at_once": 1,
        "answers_at_once": sample.num_lanes,
        "tokens_per_s": TOKENS_PER_S,
        "event_loop": "uvloop",
        "core_binding": None,
        "load_average_before": load_before,
        "load_average_at_most": max(block.load for block in _blocks(cells)),
        "link_late_p99_s_at_most": max(block.late_p99_s for block in _blocks(cells)),
        "blocks_run_again": sum(found.num_repeats for found in cells),
        "cells_disturbed": [found.setting.name for found in cells if found.is_disturbed],
        "others_cores_at_most": max(block.others_cores for block in _blocks(cells)),
        "packets_lost_by_full_kernel_queues": sum(block.num_swallowed for block in _blocks(cells)),
    }
    return Part(
        config,
        [
            cells_table(cells),
            *([socket_shipped.table(shipped)] if shipped else []),
            faults_table(results),
            socket_soak.table(crowd),
        ],
        [
            *checks(cells, arms, is_quick=is_quick),
            *socket_shipped.checks(shipped, is_quick=is_quick),
            exactness_check(results),
            struck_check(results),
            *socket_soak.checks(crowd),
        ],
    )


def _blocks(cells: Sequence[Found]) -> list[Block]:
    return [block for found in cells for blocks in found.blocks.values() for block in blocks]


def _run_cells(rig: Rig, sample: SocketSample) -> list[Found]:
    found = [Found(setting, {arm: [] for arm in rig.arms}) for setting in settings(sample)]
    rig.warm_up(found[0].setting, sample)
    total = len(found) * sample.num_blocks * len(rig.arms)
    progress = tqdm(total=total, unit="block", desc="sockets")
    for number in range(sample.num_blocks):
        for index, cell in enumerate(found):
            # Each arm's turn comes at another time.
            for arm in islice(cycle(rig.arms), index + number, index + number + len(rig.arms)):
                cell.blocks[arm].append(_undisturbed(rig, cell, arm, sample, number))
                progress.update()
    progress.close()
    return found


def _undisturbed(rig: Rig, cell: Found, arm: Arm, sample: SocketSample, number: int) -> Block:
    for left in reversed(range(MOST_TRIES)):
        block = rig.block(cell.setting, arm, sample, number)
        if block.late_p99_s <= LATE_S or not left:
            return block
        cell.num_repeats += 1
    raise AssertionError


def _run_faults(settings_: Settings, sample: SocketSample, folder: Path) -> list[Result]:
    own = settings_.model_copy(update={"models": (QUICK_MODEL,)})
    gateways = Gateways(own, own.models, folder, schemes=("snapshots",))
    try:
        return uvloop.run(_faults(gateways, sample))
    finally:
        gateways.stop()


async def _faults(gateways: Gateways, sample: SocketSample) -> list[Result]:
    (door,) = gateways.doors
    url = f"http://{door.host}:{door.port}"
    num_restarts = int(sample.num_exact * RESTART_SHARE)
    seeds = range(sample.seed_base, sample.seed_base + sample.num_exact)
    alone = [
        Case.drawn(seed, fault)
        for seed, fault in zip(seeds[num_restarts:], cycle(ALONE), strict=False)
    ]
    restarted = [Case.drawn(seed, Fault.RESTART) for seed in seeds[:num_restarts]]
    expected: dict[int, str] = {}
    limit = asyncio.Semaphore(AT_ONCE)

    async def refer(case: Case) -> None:
        async with limit:
            expected[case.seed] = await reference(url, QUICK_MODEL.name, case)

    async def read(case: Case) -> Result:
        async with limit:
            return await read_through(case, url, QUICK_MODEL.name, expected[case.seed])

    async def read_amid(case: Case, number: int, restart: Restart) -> Result:
        told = partial(restart.amid, number)
        return await read_through(case, url, QUICK_MODEL.name, expected[case.seed], told)

    await asyncio.gather(*map(refer, [*alone, *restarted]))
    results = list(await asyncio.gather(*map(read, alone)))
    for first in range(0, len(restarted), AT_ONCE // 2):
        some = restarted[first : first + AT_ONCE // 2]
        restart = Restart(len(some), partial(asyncio.to_thread, gateways.kill, 0))
        results += await asyncio.gather(
            *(read_amid(case, number, restart) for number, case in enumerate(some))
        )
    return results
