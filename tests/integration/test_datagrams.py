"""A program reads from a served model by datagrams, through a path that loses a tenth of them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncClient
from headstart.stages.carrier_ladder import LadderLimits, Rung
from tests.support.daemon import Daemon, running
from tests.support.events import chunks
from tests.support.offering import OtherPort
from tests.support.udp_relay import udp_relay

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running("fake", tmp_path) as daemon:
        daemon.wait_until_ready()
        yield daemon


def test_the_daemons_answers_come_by_datagrams(daemon: Daemon) -> None:
    asyncio.run(asyncio.wait_for(_read(daemon.url), 60))


async def _read(url: str) -> None:
    port = httpx.URL(url).port
    assert port is not None
    link = {"loss": 0.1, "duplication": 0.05, "delay_s": 0.01, "jitter_s": 0.02}
    async with (
        udp_relay(port, seed=11, **link) as relay,
        httpx.AsyncClient(
            base_url=url, timeout=240, transport=OtherPort(relay.port), trust_env=False
        ) as http,
        AsyncClient(http=http, limits=LadderLimits(race_s=1e6)) as client,
    ):
        seen: set[frozenset[Rung]] = set()
        for _ in range(2):
            answer = await client.chat.completions.create(
                model=(await http.get("/v1/models")).json()["data"][0]["id"],
                messages=[{"role": "user", "content": "Name three colours."}],
                max_tokens=150,
                stream=True,
            )
            found = []
            async for chunk in answer:
                found.append(chunk)
                seen.add(answer.rungs)
            body = (await http.get(f"/v1/streams/{answer.id}")).content
            assert found == [ChatCompletionChunk.construct(**chunk) for chunk in chunks(body)]

        assert frozenset({Rung.DATAGRAMS}) in seen
        assert relay.num_lost > 0
