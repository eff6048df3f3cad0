"""A process that stood still (stopped, or its machine paused) does not take its peer for dead."""

import time
from types import SimpleNamespace

import pytest

from headstart.cluster import data_plane, remote_engine
from headstart.stages.stage_clock import ClockOffset
from tests.cluster.data_plane_peers import SETTINGS, gateway, replica, request
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

PAUSE_S = 1000.0
QUICK = SETTINGS.model_copy(update={"ping_interval_s": 0.01})


class Pings(ClockOffset):
    """Counts the pings that came back."""

    count = 0

    def add(self, sent: float, remote_received: float, remote_sent: float, received: float) -> None:
        self.count += 1


async def test_a_pause_breaks_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    async with replica(QUICK) as behind, gateway(behind.address, QUICK) as link:
        link.clock = pings = Pings()
        await eventually(lambda: pings.count > 3)
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + PAUSE_S)
        monkeypatch.setattr(data_plane, "time", later)
        monkeypatch.setattr(remote_engine, "time", later)
        # Meanwhile both ends' watchmen come round and find that much time has passed.
        await eventually(lambda: pings.count > 20)

        answer = link.serve(request("after", tokens=3))
        await soon(answer.finished())
        assert link.is_up
        assert answer.end is not None
        assert answer.end.output_tokens == 3
