"""What the tests of the whole share."""

from collections.abc import AsyncIterator

import pytest

from tests.support.gateway import Gateway, serving


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """As in tests/pipeline."""
    return "asyncio"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway in this process, with one quick replica."""
    async with serving() as gateway:
        yield gateway
