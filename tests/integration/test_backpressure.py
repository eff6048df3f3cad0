"""A reader that never reads costs its own log and nothing else."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from tests.support.daemon import Daemon, running
from tests.support.events import text
from tests.support.raw_http import connected

pytestmark = [pytest.mark.ray, pytest.mark.anyio, pytest.mark.timeout(600)]

MIB = 1 << 20
COMPLETIONS = "/v1/completions"
NUM_READERS = 63
SHORT, LONG = 16_000, 2_000_000
"""Tokens; the long answer's events are several times what the kernel holds for a connection."""


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose engine makes tokens as fast as it can."""
    fast = ("models.0.fake.tokens_per_s=0", "models.0.fake.tokens_per_step=64")
    folder = tmp_path_factory.mktemp("daemon")
    with running("fake", folder, *fast, f"models.0.max_model_len={2 * LONG}") as daemon:
        daemon.wait_until_ready()
        yield daemon


async def test_reader_that_never_reads_holds_up_nobody(daemon: Daemon) -> None:
    gateway = daemon.child("headstart gateway")
    before = gateway.memory_info().rss
    url = httpx.URL(daemon.url)
    assert url.port is not None
    limits = httpx.Limits(max_connections=NUM_READERS + 1)
    async with (
        httpx.AsyncClient(base_url=url, timeout=240, trust_env=False, limits=limits) as client,
        connected((url.host, url.port), receive_buffer=1 << 15) as sleeper,
    ):
        sleeper.post(COMPLETIONS, {"prompt": "sleep", "max_tokens": LONG, "stream": True})
        await sleeper.until(b'"text":" ')

        asking = [
            client.post(
                COMPLETIONS,
                json={"prompt": f"number {number}", "max_tokens": SHORT, "stream": True},
            )
            for number in range(NUM_READERS)
        ]
        answers = await asyncio.gather(*asking)

        assert {len(text(answer.content).split()) for answer in answers} == {SHORT}
        metrics = (await client.get("/metrics")).text
        (log_bytes,) = values(metrics, "headstart_log_bytes ")
        grown = gateway.memory_info().rss - before
        print(f"logs {log_bytes / MIB:.0f} MiB, gateway {grown / MIB:.0f} MiB")  # noqa: T201
        assert grown < 2 * log_bytes + 64 * MIB

        late = await sleeper.all_until(b"data: [DONE]\n\n")
        assert len(late) > 8 * MIB


def values(metrics: str, name: str) -> list[float]:
    return [float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(name)]
