"""Answers on paths that delay each packet as they like."""

import pytest

from headstart.benchmarks.channel_models import Link, NoLoss
from headstart.benchmarks.link_simulator import Lane, simulate
from headstart.benchmarks.transport_cells import ours, steady
from headstart.stages.congestion import PACKET_BYTES

JITTER_S = 0.08


@pytest.mark.parametrize("tokens_per_s", [60, 200])
def test_jitter_and_duplicates_on_a_path_without_delay_make_no_gap(tokens_per_s: int) -> None:
    for seed in range(4):
        server, client = ours(0.001)
        down, up = (
            Link(NoLoss(), 0.0, reorder=1.0, reorder_s=JITTER_S, duplicate=0.3, seed=way)
            for way in (seed, seed + 1_000)
        )

        run = simulate(Lane(server, client, down, up, steady(tokens_per_s, 10)))

        assert bytes(client.shown) == server.log.read(0)
        assert run.delays(JITTER_S)[-1] < 0.1
        assert server._congestion is not None
        assert not server._congestion._has_queue
        assert server._congestion.window_bytes >= 10 * PACKET_BYTES
