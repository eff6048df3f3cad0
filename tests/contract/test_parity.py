"""Through gateway and data plane, an answer is what vLLM's app gives by itself.

`make parity` asks all of the table, and the real `vllm serve`.
"""

import warnings
from collections.abc import AsyncIterator

import httpx
import pytest

from headstart.cluster.data_plane import DataPlaneServer
from headstart.cluster.stream import StreamTable
from headstart.cluster.vllm_engine import VllmEngine
from tests.contract.asking import Subject
from tests.contract.conftest import ENGINE
from tests.parity.answers import ask, told_apart
from tests.parity.table import CASES, FEW
from tests.support.gateway import DATA_PLANE, serving, speeds

pytestmark = [pytest.mark.anyio, *ENGINE]


@pytest.fixture(scope="module")
async def ours(vllm: Subject, vllm_streams: StreamTable) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway in front of vLLM."""
    server = DataPlaneServer(vllm.engine, vllm.info, vllm_streams, DATA_PLANE)
    port = await server.start()
    try:
        async with serving(speeds(vllm.info.model), is_connected=False) as gateway:
            await gateway.connect(port)
            yield gateway.client
    finally:
        await server.close()


@pytest.fixture(scope="module")
async def theirs(vllm: Subject) -> AsyncIterator[httpx.AsyncClient]:
    """A client of vLLM's app in this process."""
    assert isinstance(vllm.engine, VllmEngine)
    transport = httpx.ASGITransport(vllm.engine._app)
    async with httpx.AsyncClient(transport=transport, base_url="http://vllm") as client:
        yield client


@pytest.mark.parametrize("name", FEW)
async def test_same_answer(name: str, ours: httpx.AsyncClient, theirs: httpx.AsyncClient) -> None:
    case = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vLLM's app may warn of what is asked for
        # Both twice: answers say how much of a prompt they have found in the cache.
        for client in (ours, theirs):
            await ask(client, case)
        mine, other = await ask(ours, case), await ask(theirs, case)

    assert told_apart(mine, other) == []
