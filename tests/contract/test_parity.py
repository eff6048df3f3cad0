"""Through gateway and data plane, an answer is what vLLM's app gives by itself.

`make parity` asks all of the table, and the real `vllm serve`.
"""

import warnings
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from headstart.cluster.data_plane import DataPlaneServer
from headstart.cluster.stream import StreamTable
from headstart.cluster.vllm_engine import VllmEngine
from tests.contract.asking import Subject
from tests.contract.conftest import ENGINE
from tests.parity.answers import ask, told_apart
from tests.parity.table import CASES, FEW, FORMS, streamed
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
        # Once before: answers say how much of a prompt they have found in the cache.
        await ask(theirs, case)
        mine, other = await ask(ours, case), await ask(theirs, case)

    assert told_apart(mine, other) == []


SHAPELESS = ("embeddings", "/v1/chat/completions: not UTF-8", "/tokenize: not UTF-8")
"""What vLLM's own server answers without OpenAI's error object."""


def error_of(body: Any) -> dict[str, Any]:
    assert set(body) == {"error"}, body
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("name", SHAPELESS)
async def test_every_refusal_has_openai_s_shape(name: str, ours: httpx.AsyncClient) -> None:
    answer = await ask(ours, CASES[name])

    assert error_of(answer.body)["code"] == answer.status


@pytest.mark.parametrize("name", FORMS)
async def test_form_that_cannot_be_is_the_client_s_fault(
    name: str, ours: httpx.AsyncClient
) -> None:
    """vLLM's own server answers 500 to most of these."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = await ask(ours, FORMS[name])
        parts = await ask(ours, streamed(FORMS[name]))
        fine = await ask(ours, CASES["chat, one token"])

    error = error_of(whole.body)
    assert (whole.status, error["code"]) == (400, 400), error
    assert error["param"] in ("structured_outputs", "response_format", "text"), error
    if parts.status == httpx.codes.OK:
        ends = [data for event in parts.body for _, data in event if "error" in str(data)]
        assert ends[-1]["error"]["code"] == 400
    else:
        assert error_of(parts.body)["code"] == parts.status == 400
    assert fine.status == httpx.codes.OK
