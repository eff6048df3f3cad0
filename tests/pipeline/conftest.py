"""What the gateway's tests share."""

from collections.abc import AsyncIterator

import pytest

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
