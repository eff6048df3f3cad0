"""What the client's tests share."""

from collections.abc import AsyncIterator

import httpx
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from headstart.client import AsyncClient
from tests.support.gateway import Gateway, serving


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Not uvloop, which would swallow what a test that takes too long is ended with."""
    return "asyncio"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway with one quick replica."""
    async with serving() as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncClient]:
    """Ours, talking to it."""
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=None, trust_env=False) as http,
        AsyncClient(http=http) as client,
    ):
        yield client


@pytest.fixture
async def openai(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """The official client."""
    async with (
        DefaultAsyncHttpxClient(trust_env=False) as http,
        AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", http_client=http) as client,
    ):
        yield client
