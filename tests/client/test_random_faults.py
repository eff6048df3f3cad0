"""Answers through bad paths and worse, drawn at random: `headstart bench transport` runs 128."""

import asyncio

import pytest

from headstart.benchmarks.socket_exactness import read_through, reference
from headstart.benchmarks.socket_faults import ALONE, Case, Fault
from headstart.configs.serving import QuicSettings
from headstart.stages.carrier_ladder import Rung
from tests.support.gateway import serving, speeds

pytestmark = [pytest.mark.anyio, pytest.mark.alone]


async def test_every_reader_gets_every_byte_once() -> None:
    cases = [Case.drawn(seed, fault) for seed, fault in enumerate(ALONE)]
    async with serving(speeds(tokens_per_s=60.0), quic=QuicSettings()) as gateway:
        url = gateway.url
        expected = await asyncio.gather(*(reference(url, "fake", case) for case in cases))
        results = await asyncio.gather(
            *(
                read_through(case, url, "fake", text)
                for case, text in zip(cases, expected, strict=True)
            )
        )

    assert {result.case.fault: result.problem for result in results if result.problem} == {}
    assert sum(result.num_lost for result in results) > 0
    # On a busy machine one may end before datagrams carry it alone.
    assert len([result for result in results if not result.is_struck]) <= 2
    (blocked,) = (result for result in results if result.case.fault is Fault.BLOCKED)
    assert Rung.SSE in blocked.last_rungs
